"""Prometheus metrics: what every server has, and what reasoning adds."""

from __future__ import annotations

from typing import Any

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()

        def make(kind: Any, name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
            return kind(f"ponder_{name}", text, labels, registry=self.registry, **more)

        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        self.requests = make(counter, "requests", "HTTP requests", ("route", "status"))
        self.prompt_tokens = make(counter, "prompt_tokens", "Prompt tokens")
        self.reasoning_tokens = make(counter, "reasoning_tokens", "Hidden reasoning tokens", ("effort",))
        self.answer_tokens = make(counter, "answer_tokens", "Visible answer tokens")
        self.summary_tokens = make(counter, "summary_tokens", "Tokens read and written by the summariser")
        self.samples = make(counter, "samples", "Samples drawn", ("mode",))
        self.discarded = make(counter, "discarded_tokens", "Tokens of samples that were not chosen")
        self.finished = make(counter, "responses", "Responses by how they ended", ("status",))
        self.exhausted = make(counter, "budget_exhausted", "Responses cut by a token limit", ("where",))
        self.aborted = make(counter, "aborted", "Responses stopped by a client that left or cancelled")
        self.verdicts = make(counter, "monitor_verdicts", "Verdicts on reasoning", ("monitor", "action"))
        self.running = make(gauge, "running", "Responses being produced")
        self.queue = make(gauge, "engine_queue_tokens", "Tokens that the engine may still have to sample, at most")
        self.thinking = make(histogram, "thinking_seconds", "Time spent thinking", buckets=_SECONDS)
        self.first_visible = make(
            histogram, "time_to_first_visible_token_seconds", "From request to the first answer token", buckets=_SECONDS
        )
        self.duration = make(histogram, "response_seconds", "From request to the end", buckets=_SECONDS)
        self.lengths = make(histogram, "response_reasoning_tokens", "Reasoning tokens a response", buckets=_TOKENS)

    def text(self) -> bytes:
        import prometheus_client as prometheus

        return prometheus.generate_latest(self.registry)
