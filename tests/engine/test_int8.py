"""Products in int8: exact inside a block, the same on every CPU, each row by itself, and close to the weights' own."""

from __future__ import annotations

import asyncio
import ctypes
import warnings

import pytest
import torch
from torch import Tensor

from ponder.cli.loading import describe, open_engine
from ponder.config import ConfigError
from ponder.engine import native
from ponder.engine.arranging import in_memory
from ponder.engine.local import LocalEngine
from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.models import compiled
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.engine.test_decoder import CLOSE, END, dense_logprobs, exactly, request, sharp_model
from tests.helpers import tiny_model, user

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
BLOCK = 64


@pytest.fixture(autouse=True)
def compiled_c(monkeypatch):
    monkeypatch.delenv("PONDER_NATIVE", raising=False)
    if native.library(torch.float32) is None:
        pytest.skip("no compiled network here: it needs an x86 CPU with AVX2 and a C compiler")


def this_cpu(dtype: torch.dtype) -> tuple[str, ...]:
    return compiled.flags(dtype, int8=True) or ()


def without_vnni(dtype: torch.dtype) -> tuple[str, ...]:
    return tuple(flag for flag in this_cpu(dtype) if not flag.endswith("vnni"))


def avx2(dtype: torch.dtype) -> tuple[str, ...]:
    return ("-mavx2", "-mfma", "-DINT8", *(["-DBF16"] if dtype == torch.bfloat16 else []))


CPUS = {"this": this_cpu, "without VNNI": without_vnni, "AVX2": avx2}
every_cpu = pytest.mark.parametrize("cpu", CPUS)


def path(cpu: str, dtype: torch.dtype) -> str:
    return str(compiled.build(native.SOURCE, CPUS[cpu](dtype)))


def product(cpu: str, x: Tensor, weight: Tensor) -> Tensor:
    """x (N in) times weight (out in), as the output head is computed."""
    library = native._load(path(cpu, weight.dtype))
    made = native._matrix(path(cpu, weight.dtype), "weight", [weight], weight.dtype)
    panels, scales = in_memory([made], torch.int32, weight.device).views().values()
    model = native._Model(D=weight.shape[1], vocabulary=len(weight))
    model.head = native._Matrix(panels.data_ptr(), scales.data_ptr(), None, weight.shape[1], len(weight))
    out = torch.full((len(x), len(weight)), torch.nan)
    assert not library.logits(ctypes.byref(model), x.contiguous().data_ptr(), len(x), out.data_ptr())
    return out


def numbers(seed: int, *shape: int) -> Tensor:
    """Normal, with outliers, all of them numbers of bf16 too."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator) * torch.randn(shape, generator=generator).abs().exp()
    return drawn.bfloat16().float()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size", "columns"), [(1, 16, 1), (7, 64, 33), (17, 144, 70), (100, 320, 32)])
@every_cpu
def test_whole_numbers_are_multiplied_exactly(cpu, rows, size, columns, dtype):
    generator = torch.Generator().manual_seed(size)
    x = torch.randint(-127, 128, (rows, size), generator=generator)
    weight = torch.randint(-127, 128, (columns, size), generator=generator)
    x[:, ::BLOCK], weight[:, ::BLOCK] = 127, -127  # every block's largest: scales are 1
    assert torch.equal(product(cpu, x.float(), weight.to(dtype)), (x @ weight.T).float())


@pytest.mark.parametrize("dtype", DTYPES)
@every_cpu
def test_the_largest_numbers_of_either_sign_are_multiplied_exactly_in_any_number_of_rows(cpu, dtype):
    generator = torch.Generator().manual_seed(0)
    for rows, size in zip(range(1, 10), [16, 48, 80, 100, 66, 31, 200, 130, 1], strict=True):
        x = 127 * (2 * torch.randint(2, (rows, size), generator=generator) - 1)
        weight = 127 * (2 * torch.randint(2, (37, size), generator=generator) - 1)
        x[-1], weight[-1], weight[-2] = -127, -127, 127  # products of one sign: the largest sums
        assert torch.equal(product(cpu, x.float(), weight.to(dtype)), (x @ weight.T).float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_cpu_computes_the_same_bits(dtype):
    x, weight = numbers(0, 19, 336), numbers(1, 75, 336).to(dtype)
    x[3], weight[5], x[4, :BLOCK] = 0, 0, 1e-40
    first, *others = (product(cpu, x, weight) for cpu in CPUS)
    assert all(torch.equal(first, other) for other in others)
    assert first.isfinite().all() and not first[3].any() and not first[:, 5].any()


@every_cpu
def test_a_number_that_is_none_is_not_hidden(cpu):
    x, weight = numbers(0, 9, 130), numbers(1, 40, 130)
    right = product(cpu, x, weight)
    x[2, 5], x[4, 129], weight[7, 70] = torch.nan, torch.inf, torch.nan
    found = product(cpu, x, weight)
    assert not found[[2, 4]].isfinite().any() and found[:, 7].isnan().all()
    rows, columns = [0, 1, 3, 5, 6, 7, 8], [*range(7), *range(8, 40)]
    assert torch.equal(found[rows][:, columns], right[rows][:, columns])


def test_the_error_is_at_most_half_a_step_of_each_factor_in_every_block():
    x, weight = numbers(0, 12, 400), numbers(1, 40, 400)

    def half_steps(numbers: Tensor) -> Tensor:
        blocks = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        steps = blocks.abs().amax(2, keepdim=True).expand_as(blocks).flatten(1) / 254
        return steps[:, : numbers.shape[1]].double()

    exact = x.double() @ weight.double().T
    bound = x.double().abs() @ half_steps(weight).T + half_steps(x) @ (weight.double().abs() + half_steps(weight)).T
    error = (product("this", x, weight).double() - exact).abs()
    assert (error <= bound * 1.0001 + 1e-4).all()
    assert error.max() > 0.02 * bound.min()  # it is int8


def runner(model, dtype: torch.dtype, *, cpu: str = "this", num_slots: int = 64) -> Runner:
    layout = WeightLayout(model.config, dtype, path(cpu, dtype))
    return Runner(
        layout, layout.in_memory(model.state_dict(), model.device).views(),
        end_id=END, unthink_id=CLOSE, pad_id=0, decode=str,
        num_slots=num_slots,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_completion_in_int8_has_the_same_bits_in_any_company(dtype):
    model = sharp_model(hidden_size=144, intermediate_size=200, num_attention_heads=9, num_key_value_heads=3)
    requests = [
        request(i, length=length, n=n, tokens=tokens, temperature=0.9)
        for i, (length, n, tokens) in enumerate([(40, 8, 20), (60, 1, 50), (120, 5, 20), (100, 2, 12), (130, 1, 15)])
    ]
    together = run_all(runner(model, dtype, num_slots=12), requests)
    for one, samples in zip(requests, together, strict=True):
        assert exactly(samples) == exactly(run_all(runner(model, dtype, num_slots=1), [one])[0])
    backwards = run_all(runner(model, dtype), requests[::-1])[::-1]
    assert [exactly(samples) for samples in backwards] == [exactly(samples) for samples in together]


@pytest.mark.parametrize(
    "family", [{"attention_bias": True, "mlp_bias": True}, {"tie_word_embeddings": False, "intermediate_size": 50}]
)
@every_cpu
def test_int8_is_close_to_the_readable_model(family, cpu):
    model = sharp_model(**family)
    one = request(3, length=70, n=4, tokens=30)
    errors = []
    for sample in run_all(runner(model, torch.float32, cpu=cpu), [one])[0]:
        slow = dense_logprobs(model, one, sample)
        errors += [abs(fast - slow) for fast, slow in zip(sample.logprobs, slow, strict=True)]
    assert 0.001 < sum(errors) / len(errors) < 0.1 and max(errors) < 0.6


def logprobs(engine: LocalEngine) -> list[float]:
    params = SamplingParams(max_answer_tokens=8, max_reasoning_tokens=5, temperature=0)
    return list(asyncio.run(engine.generate(user("2+2"), params))[0].sampler_logprobs)


def test_new_weights_are_quantised_as_those_of_a_new_engine():
    old, new = tiny_model(0), tiny_model(1)
    with LocalEngine(new, ByteTokenizer(), num_workers=0, int8=True) as engine:
        wanted = logprobs(engine)
    with LocalEngine(new, ByteTokenizer(), num_workers=0) as engine:
        assert logprobs(engine) != wanted
    with LocalEngine(old, ByteTokenizer(), num_workers=0, int8=True) as engine:
        assert logprobs(engine) != wanted
        engine.update_weights(new.state_dict(), version=1)
        assert logprobs(engine) == wanted


def test_a_cpu_without_vnni_says_how_it_computes_int8(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if compiled.vnni() is not None:
            WeightLayout.of(tiny_model().config, torch.float32, CPU, int8=True)
    monkeypatch.setattr(compiled, "vnni", lambda: None)
    with pytest.warns(UserWarning, match="no products of int8 .VNNI.*16 bits.*the same results"):
        layout = WeightLayout.of(tiny_model().config, torch.float32, CPU, int8=True)
    assert layout.library == path("without VNNI", torch.float32)


@pytest.mark.parametrize("why", ["PyTorch", "GPU", "float16", "head width"])
def test_int8_is_refused_where_the_compiled_decoder_cannot_compute(why, monkeypatch):
    if why == "PyTorch":
        monkeypatch.setenv("PONDER_NATIVE", "0")
    config = tiny_model(**({"head_dim": 8} if why == "head width" else {})).config
    dtype = torch.float16 if why == "float16" else torch.float32
    device = torch.device("cuda" if why == "GPU" else "cpu")
    with pytest.raises(ConfigError, match="compiled decoder.*leave int8 out"):
        WeightLayout.of(config, dtype, device, int8=True)


def test_samples_in_int8_are_those_of_another_policy():
    plain, quantised = describe("nano", None), describe("nano", None, int8=True)
    assert plain.fingerprint != quantised.fingerprint and plain.name != quantised.name


def test_an_endpoint_cannot_be_asked_for_int8():
    with pytest.raises(ConfigError, match="leave it out with --base-url"):
        open_engine("any", "http://127.0.0.1:9/v1", int8=True)
