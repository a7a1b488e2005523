"""What holds for every test."""

import torch

# as in the workers: with more threads PyTorch sums in another order, and no two bits would be sure to agree
torch.set_num_threads(1)
