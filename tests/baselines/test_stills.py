"""Still codecs: round trips from bytes alone, faithful planes, damage, and learned codecs with small random networks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baselines import nal, stills, vvc_still
from baselines.bpg import MAX_SIDE
from baselines.stills import Avif, Bpg, Jpeg, LearnedStill, StillCodec, VvcStill, WebP, pack_head, unpack_head
from baselines.vvc_still import ParameterSets
from data.clip import Clip, Colour
from data.errors import BitstreamError, CodecUnavailable, InputError, TruncatedBitstream, WeightsMismatch

EXACT_PLANES: list[StillCodec] = [Bpg(30, "veryfast"), VvcStill(30, "faster"), Jpeg(60), WebP(60, 2)]
CODECS: list[StillCodec] = [*EXACT_PLANES, Avif(70, 8)]
by_name = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def needs(codec: StillCodec) -> None:
    if reason := codec.missing():
        pytest.skip(reason)


def smooth(width: int, height: int, fps: Fraction = Fraction(25), colour: Colour | None = None) -> Clip:
    """A picture of slow waves in all three planes."""
    y, x = np.mgrid[:height, :width]
    v, u = np.mgrid[: (height + 1) // 2, : (width + 1) // 2]
    planes = (
        128 + 80 * np.sin(x / 9) * np.cos(y / 7),
        128 + 40 * np.sin(u / 8 + v / 11),
        128 + 40 * np.cos(u / 9 - v / 7),
    )
    luma, cb, cr = (np.rint(plane).astype(np.uint8)[None] for plane in planes)
    return Clip(luma, cb, cr, fps, colour or Colour())


def worst(a: Clip, b: Clip) -> list[int]:
    return [int(np.abs(p.astype(int) - q).max()) for p, q in ((a.y, b.y), (a.u, b.u), (a.v, b.v))]


# -- all of them -----------------------------------------------------------------------------------------------------


@by_name
@pytest.mark.parametrize("width, height", [(64, 48), (33, 17), (1, 1), (50, 5)])
def test_size_colour_and_frame_rate_come_back(codec: StillCodec, width: int, height: int) -> None:
    needs(codec)
    source = smooth(width, height, Fraction(30000, 1001), Colour("bt709", "full", "topleft"))
    decoded = type(codec)(*([51] if codec.name in ("bpg", "vvc-still") else [1])).decode(codec.encode(source))
    assert decoded.y.shape == source.y.shape
    assert (decoded.fps, decoded.colour) == (source.fps, source.colour)
    assert max(worst(decoded, source)) <= 45
    assert float(np.abs(decoded.y.astype(int) - source.y).mean()) < 6


@by_name
def test_encoding_is_repeatable_and_finer_settings_cost_more(codec: StillCodec) -> None:
    needs(codec)
    noise = np.random.default_rng(2).normal(0, 12, (1, 64, 64))
    source = smooth(64, 64)
    source = replace(source, y=np.clip(source.y + noise, 0, 255).astype(np.uint8))
    stream = codec.encode(source)
    assert codec.encode(source) == stream
    finer = replace(codec, qp=18) if codec.name in ("bpg", "vvc-still") else replace(codec, quality=95)  # type: ignore[type-var]
    assert len(finer.encode(source)) > 1.2 * len(stream)
    error, finer_error = (np.mean((c.decode(c.encode(source)).y - source.y.astype(float)) ** 2) for c in (codec, finer))
    assert finer_error < error


@pytest.mark.parametrize(
    "codec", [Bpg(4, "veryfast"), VvcStill(8, "faster"), Jpeg(95), WebP(100, 2)], ids=lambda codec: codec.name
)
def test_chroma_planes_are_coded_without_a_conversion(codec: StillCodec) -> None:
    """Chroma that changes from sample to sample would be blurred away by any way through R'G'B'."""
    needs(codec)
    flat = smooth(32, 32)
    checks = np.indices((16, 16)).sum(0)[None] % 2
    source = replace(flat, u=(108 + 40 * checks).astype(np.uint8), v=(140 - 30 * checks).astype(np.uint8))
    assert max(worst(codec.decode(codec.encode(source)), source)) <= 12


@by_name
def test_a_cut_stream_is_a_bitstream_error(codec: StillCodec) -> None:
    needs(codec)
    stream = codec.encode(smooth(40, 24))
    step = max(1, len(stream) // 25)
    for end in range(0, len(stream) - 2, step):
        with pytest.raises(BitstreamError):
            codec.decode(stream[:end])


@by_name
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_a_picture_or_a_bitstream_error(codec: StillCodec, data: st.DataObject) -> None:
    needs(codec)
    stream = bytearray(_stream(codec))
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(stream)))
        stream[start:] = data.draw(st.binary(max_size=40))
    else:
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = codec.decode(bytes(stream))
    except BitstreamError:
        return
    assert decoded.n_frames == 1 and max(decoded.width, decoded.height) <= MAX_SIDE


def _stream(codec: StillCodec, cache: dict[str, bytes] = {}) -> bytes:  # noqa: B006, one encode for all examples
    if codec.name not in cache:
        cache[codec.name] = codec.encode(smooth(24, 16))
    return cache[codec.name]


@by_name
def test_more_than_one_frame_is_refused(codec: StillCodec) -> None:
    one = smooth(16, 16)
    two = replace(one, y=one.y.repeat(2, 0), u=one.u.repeat(2, 0), v=one.v.repeat(2, 0))
    with pytest.raises(InputError, match="one frame"):
        codec.encode(two)


def test_settings_out_of_range_are_refused() -> None:
    for make in (lambda: Bpg(52), lambda: VvcStill(64), lambda: Jpeg(0), lambda: WebP(101), lambda: LearnedStill(quality=9)):
        with pytest.raises(InputError, match="is not in"):
            make()
    with pytest.raises(InputError, match="is not one of"):
        LearnedStill("bmshj2019")


# -- head ------------------------------------------------------------------------------------------------------------


@given(
    st.builds(Fraction, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1)),
    st.sampled_from(["bt601", "bt709", "bt2020"]),
    st.sampled_from(["limited", "full"]),
    st.sampled_from(["left", "center", "topleft"]),
)
def test_head_round_trip(fps: Fraction, matrix: str, colour_range: str, siting: str) -> None:
    colour = Colour(matrix, colour_range, siting)
    assert unpack_head(pack_head(fps, colour) + b"rest") == (fps, colour, b"rest")


def test_usual_frame_rates_cost_one_byte() -> None:
    for fps in stills.FRAME_RATES.values():
        assert len(pack_head(fps, Colour())) == 1
    with pytest.raises(InputError, match="32 bits"):
        pack_head(Fraction(2**32 + 1, 2**30), Colour())
    for head in (b"", b"\x03", b"\x18", b"\x00\x80", b"\x00\x19\x00"):
        with pytest.raises(BitstreamError):
            unpack_head(head)


# -- VVC still -------------------------------------------------------------------------------------------------------


def test_vvc_still_sends_no_parameter_sets_and_rebuilds_those_of_libvvenc() -> None:
    needs(VvcStill(30))
    source = smooth(72, 40)
    annex_b = vvc_still._run_vvenc(72, 40, 40, "slow", source.yuv_bytes())
    units = {nal.nal_type(unit, "vvc"): unit for unit in nal.split(annex_b)}
    stream = vvc_still.encode_vvc_still(source, 40, "slow")
    assert stream[0] & 15 == 4
    sps, pps = vvc_still.write_parameter_sets(vvc_still.PARAMETER_SETS[4], 72, 40)
    assert pps == units[nal.Vvc.PPS]
    level_at = 2 + vvc_still._LEVEL_BITS.start // 8
    theirs = units[nal.Vvc.SPS]
    assert sps[:level_at] + sps[level_at + 1 :] == theirs[:level_at] + theirs[level_at + 1 :]
    assert len(annex_b) - len(stream) > 50


def test_vvc_still_of_an_unknown_libvvenc_carries_its_parameter_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    needs(VvcStill(30))
    source = smooth(24, 16)
    short = vvc_still.encode_vvc_still(source, 30, "faster")
    monkeypatch.setattr(vvc_still, "PARAMETER_SETS", {1: ParameterSets(0, b"other", b"ends")})
    written_out = vvc_still.encode_vvc_still(source, 30, "faster")
    assert written_out[0] & 15 == 0 and len(written_out) > len(short)
    here = vvc_still.decode_vvc_still(written_out)
    monkeypatch.undo()
    for got, expected in zip(here, vvc_still.decode_vvc_still(short), strict=True):
        assert np.array_equal(got, expected)


def test_vvc_still_holds_nothing_but_coded_picture() -> None:
    """libvvenc prints a warning with the preset "faster" that once ended up in the stream."""
    needs(VvcStill(30))
    assert b"warning" not in vvc_still.encode_vvc_still(smooth(16, 16), 40, "faster")


# -- learned codecs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor"])
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearnedStill]:
    """A codec whose weights are a small random network in a folder of checkpoints."""
    torch.manual_seed(0)
    codec = LearnedStill(request.param)
    folder = tmp_path_factory.mktemp("weights")
    _save_random_network(codec.model, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(stills.WEIGHTS_VARIABLE, str(folder))
        yield codec


def _save_random_network(model: str, folder: Path) -> Path:
    zoo = stills._zoo()
    network = zoo.model_architectures[model](*([8] if model.startswith("cheng") else [8, 12]))
    network.update(force=True)
    part = folder / "part"
    torch.save(network.state_dict(), part)
    digest = hashlib.sha256(part.read_bytes()).hexdigest()[:8]
    published = zoo.model_urls[model]["mse"][1].rsplit("/", 1)[1]
    return part.rename(folder / f"{published.removesuffix('.pth.tar').rpartition('-')[0]}-{digest}.pth.tar")


def test_learned_still_decodes_from_bytes_to_the_network_s_own_picture(learned: LearnedStill) -> None:
    source = smooth(70, 35, Fraction(30), Colour("bt709", "full", "center"))
    stream = learned.encode(source)
    stills._load_network.cache_clear()
    decoded = replace(learned).decode(stream)
    assert decoded.y.shape == source.y.shape
    assert (decoded.fps, decoded.colour) == (source.fps, source.colour)
    network = stills._load_network(learned.model, learned._checkpoint())
    x = torch.from_numpy(source.rgb()).permute(0, 3, 1, 2).float() / 255
    height, width = (learned._padded(side) for side in (35, 70))
    x = torch.nn.functional.pad(x, (0, width - 70, 0, height - 35), mode="replicate")
    with torch.inference_mode():
        direct = network.decompress(**{k: v for k, v in network.compress(x).items() if k in ("strings", "shape")})
    rgb = (direct["x_hat"][:, :, :35, :70].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    expected = Clip.from_rgb(np.ascontiguousarray(rgb), source.fps, source.colour)
    assert decoded.equals(expected)


def test_learned_still_notices_damage(learned: LearnedStill) -> None:
    stream = learned.encode(smooth(64, 64))
    for end in range(0, len(stream), max(1, len(stream) // 20)):
        with pytest.raises(BitstreamError):
            learned.decode(stream[:end])
    for position in range(3, len(stream), max(1, len(stream) // 20)):
        changed = bytearray(stream)
        changed[position] ^= 0x10
        with pytest.raises(BitstreamError):
            learned.decode(bytes(changed))


def test_learned_still_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = LearnedStill("bmshj2018-factorized")
    streams = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        torch.manual_seed(seed)
        _save_random_network(codec.model, folder)
        monkeypatch.setenv(stills.WEIGHTS_VARIABLE, str(folder))
        streams.append(codec.encode(smooth(16, 16)))
    codec.decode(streams[1])
    with pytest.raises(WeightsMismatch):
        codec.decode(streams[0])


def test_missing_and_foreign_weights_are_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stills.WEIGHTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    codec = LearnedStill("mbt2018-mean", 3)
    assert "mbt2018-mean-3-723404a8.pth.tar" in str(codec.missing())
    with pytest.raises(CodecUnavailable, match=stills.WEIGHTS_VARIABLE):
        codec.encode(smooth(16, 16))
    (tmp_path / "mbt2018-mean-3-00000000.pth.tar").write_bytes(b"no checkpoint")
    with pytest.raises(CodecUnavailable, match="no weights"):
        codec.encode(smooth(16, 16))


def test_truncated_learned_head() -> None:
    with pytest.raises(TruncatedBitstream):
        LearnedStill().decode(pack_head(Fraction(25), Colour()) + b"abc")
