"""What `ltau score` does, step by step: the model, the rows, blocks of them."""
