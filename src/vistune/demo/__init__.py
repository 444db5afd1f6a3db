"""The demo: Emoji-COCO, the miniature backbones, and a run of the whole flow on them."""
