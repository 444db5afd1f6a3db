"""The embedded default: Emoji-COCO, the miniature backbones, and the demo that runs everything on them."""
