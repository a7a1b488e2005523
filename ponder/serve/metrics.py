"""Prometheus metrics: what every server has, and what reasoning adds, each of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ponder.serve.generation import Count
from ponder.serve.keys import Key
from ponder.serve.logs import log
from ponder.serve.modes import ComputePlan
from ponder.serve.served import ServedModel
from ponder.serve.thoughts import Thoughts

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        import prometheus_client as prometheus

        self._models = models
        self.registry = prometheus.CollectorRegistry()

        def make(kind: Any, name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(f"ponder_{name}", text, labels, registry=self.registry, **more)

        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        self.requests = make(counter, "requests", "HTTP requests", "route", "status")
        self.prompt_tokens = make(counter, "prompt_tokens", "Prompt tokens", "model")
        self.reasoning_tokens = make(counter, "reasoning_tokens", "Hidden reasoning tokens", "model", "effort")
        self.answer_tokens = make(counter, "answer_tokens", "Visible answer tokens", "model")
        self.summary_tokens = make(counter, "summary_tokens", "Tokens read and written by the summariser", "model")
        self.samples = make(counter, "samples", "Samples drawn", "model", "mode")
        self.discarded = make(counter, "discarded_tokens", "Tokens of samples that were not chosen", "model")
        self.finished = make(counter, "responses", "Responses by how they ended", "model", "status")
        self.exhausted = make(counter, "budget_exhausted", "Responses cut by a token limit", "model", "where")
        self.aborted = make(counter, "aborted", "Responses stopped by a client that left or cancelled", "model")
        self.verdicts = make(counter, "monitor_verdicts", "Verdicts on reasoning", "model", "monitor", "action")
        self.running = make(gauge, "running", "Responses being produced", "model")
        self.is_up = make(gauge, "model_up", "1 while the model's engine has not failed for good", "model")
        self.queue = make(
            gauge, "engine_queue_tokens", "Tokens that the engine may still have to sample, at most", "model"
        )
        self.thinking = make(histogram, "thinking_seconds", "Time spent thinking", "model", buckets=_SECONDS)
        self.first_visible = make(
            histogram, "time_to_first_visible_token_seconds", "From request to the first answer token", "model",
            buckets=_SECONDS,
        )  # fmt: skip
        self.duration = make(histogram, "response_seconds", "From request to the end", "model", buckets=_SECONDS)
        self.lengths = make(
            histogram, "response_reasoning_tokens", "Reasoning tokens a response", "model", buckets=_TOKENS
        )
        for name in models:
            self.running.labels(name)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format; the gauges of engines are read at this moment."""
        import prometheus_client as prometheus

        for name, model in self._models.items():
            self.queue.labels(name).set(model.engine.outstanding_tokens)
            self.is_up.labels(name).set(model.engine.failure is None)
        return prometheus.generate_latest(self.registry)

    def report(
        self, model: str, *, key: Key, kind: str, name: str, status: str, count: Count, compute: ComputePlan,
        thoughts: Sequence[Thoughts], begun: float, first_visible: float | None,
    ) -> None:  # fmt: skip
        """A response that ended, in numbers and as a line of the log."""
        self.prompt_tokens.labels(model).inc(count.prompt)
        self.reasoning_tokens.labels(model, compute.effort).inc(count.reasoning)
        self.answer_tokens.labels(model).inc(count.answer)
        self.summary_tokens.labels(model).inc(count.summary)
        self.samples.labels(model, compute.mode).inc(count.samples)
        self.discarded.labels(model).inc(count.discarded)
        self.finished.labels(model, status).inc()
        self.lengths.labels(model).observe(count.reasoning)
        for thought in thoughts:
            self.thinking.labels(model).observe(thought.seconds)
        if first_visible is not None:
            self.first_visible.labels(model).observe(first_visible - begun)
        if status == "incomplete":
            self.exhausted.labels(model, "answer" if count.answer else "reasoning").inc()
        if status == "cancelled":
            self.aborted.labels(model).inc()
        seconds = time.monotonic() - begun
        self.duration.labels(model).observe(seconds)
        log(
            "response", kind=kind, id=name, model=model, key=key.id, status=status, seconds=round(seconds, 3),
            effort=compute.effort, mode=compute.mode, prompt_tokens=count.prompt, reasoning_tokens=count.reasoning,
            output_tokens=count.output,
        )  # fmt: skip
