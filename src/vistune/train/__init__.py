"""The stages of training: what learns, one visible loop, exact resumption."""
