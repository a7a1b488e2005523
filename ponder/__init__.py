"""ponder: teach a language model to think with RL, spend compute at test time, measure both."""

__version__ = "0.1.0"
