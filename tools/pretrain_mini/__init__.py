"""Training of the miniature backbones in `vistune/demo/backbones`: `python -m tools.pretrain_mini`."""
