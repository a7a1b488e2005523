"""What vLLM's workers get beside their own methods; it runs in vLLM's environment, and imports nothing of ponder.

Called through the route `/collective_rpc`: weights from a folder, with the head of a model whose output weights are its
embeddings put right. vLLM's CPU build multiplies with a packed copy of each weight. A tied head is a module of its own,
whose weights no file names, so a reload packs the embeddings anew and leaves the head's copy as it was: every later
log-probability is then wrong, without a word.
"""

from __future__ import annotations

from typing import Any

import torch

PROBES = 16  # columns of the head that are compared


class Extension:
    """Mixed into vLLM's worker class."""

    def ponder_load(self, folder: str, repair: bool = True) -> dict[str, Any]:
        """Read weights; what was found of the head: `untied`, `right`, `repaired` or `wrong`, and if it changed."""
        model = self.model_runner.model  # type: ignore[attr-defined]
        before = columns(model)
        self.reload_weights(weights_path=folder)  # type: ignore[attr-defined]
        head = tied_head(model, repair=repair)
        after = columns(model)
        changed = before is not None and after is not None and not torch.equal(before, after)
        return {"head": head, "changed": changed}


def tied_head(model: Any, *, repair: bool) -> str:
    """Whether the output head computes with the embeddings' present weights; packs them for it where it does not."""
    if columns(model) is None:
        return "untied"
    if is_right(model):
        return "right"
    if repair:
        model.lm_head.quant_method.process_weights_after_loading(model.lm_head)
    return "repaired" if is_right(model) else "wrong"


def is_right(model: Any) -> bool:
    """A product with a unit vector is a column of the weights, to the bit: old weights are told from new ones."""
    weight = embeddings(model)
    places = torch.linspace(0, weight.shape[1] - 1, PROBES).long()
    units = torch.zeros(PROBES, weight.shape[1], dtype=weight.dtype, device=weight.device)
    units[torch.arange(PROBES), places] = 1
    logits = model.lm_head.quant_method.apply(model.lm_head, units)
    return torch.equal(logits[:, : weight.shape[0]].float(), weight[:, places].t().float())


def columns(model: Any) -> torch.Tensor | None:
    """The weights that are compared, copied; None where the head has weights of its own, or is the embeddings."""
    head = getattr(model, "lm_head", None)
    if not getattr(model.config, "tie_word_embeddings", False) or head is None or head is embedding(model):
        return None
    weight = embeddings(model)
    return weight[:, torch.linspace(0, weight.shape[1] - 1, PROBES).long()].clone()


def embedding(model: Any) -> Any:
    """The module of the input embeddings, wherever the architecture has it."""
    return next(module for name, module in model.named_modules() if name.rpartition(".")[2] == "embed_tokens")


def embeddings(model: Any) -> torch.Tensor:
    """Its weight (V D), not copied."""
    weight: torch.Tensor = embedding(model).weight.detach()
    return weight
