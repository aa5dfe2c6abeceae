"""Thinning keeps what a person would look for, however the series came into the store."""

from hypothesis import given, settings
from hypothesis import strategies as st
from otf_session.home import Home
from otf_session.queries import series
from otf_session.store import SessionReader
from otf_session.thinning import Chunk, thin

from ..helpers.sessions import make_session, metrics, started

_FINITE = st.floats(allow_nan=False, allow_infinity=False)

# Thinning is a pure function; how long an example takes says something about the machine only.
settings.register_profile("otf", deadline=None)
settings.load_profile("otf")


@st.composite
def curves(draw, *, gaps=True, most=80):
    """Points in ascending steps, their finite values all different."""
    count = draw(st.integers(1, most))
    steps = sorted(draw(st.sets(st.integers(0, 1000), min_size=count, max_size=count)))
    values = draw(st.lists(_FINITE, min_size=count, max_size=count, unique=True))
    missing = draw(st.sets(st.integers(0, count - 1))) if gaps else set()
    return [
        (step, None if index in missing else value)
        for index, (step, value) in enumerate(zip(steps, values))
    ]


@st.composite
def cut(draw, points):
    """The same points in batches of one point or more."""
    ends = draw(st.sets(st.integers(1, len(points)), max_size=20)) | {len(points)}
    first, parts = 0, []
    for end in sorted(ends):
        parts.append(points[first:end])
        first = end
    return parts


@st.composite
def cut_curves(draw, **options):
    return draw(cut(draw(curves(**options))))


@st.composite
def bounds(draw):
    first = draw(st.integers(-10, 1010))
    return (first, draw(st.integers(first, 1020)))


def chunk(seq, part):
    finite = [(value, step) for step, value in part if value is not None]
    low, low_step = min(finite, default=(None, None))
    high, high_step = max(finite, default=(None, None))
    return Chunk(
        seq=seq,
        size=len(part),
        nonfinite=len(part) - len(finite),
        first_step=part[0][0],
        last_step=part[-1][0],
        low=low,
        low_step=low_step,
        high=high,
        high_step=high_step,
    )


def thinned(parts, points, bounds=None):
    """Thin a curve as the store does: only chunks that touch the bounds are looked at."""
    chunks = [chunk(seq, part) for seq, part in enumerate(parts)]
    if bounds is not None:
        chunks = [
            each for each in chunks if each.last_step >= bounds[0] and each.first_step <= bounds[1]
        ]
    return thin(chunks, points, lambda seqs: [p for seq in seqs for p in parts[seq]], bounds)


def assert_same_picture(kept, every, points):
    """`kept` shows what `every` shows, on a chart of `points` points."""
    buckets = max(1, points // 2)
    assert set(kept) <= set(every)
    steps = [step for step, _ in kept]
    assert steps == sorted(set(steps))
    if not every:
        return
    assert (kept[0], kept[-1]) == (every[0], every[-1])
    finite = [point for point in every if point[1] is not None]
    if finite:
        assert min(finite, key=lambda point: point[1]) in kept
        assert max(finite, key=lambda point: point[1]) in kept
    gaps = 1 if len(finite) < len(every) else 0
    assert len(kept) <= max(points, (2 + gaps) * buckets + 2)


def assert_close_everywhere(kept, every, width):
    """Every point has kept ones beside it that span its value, or a gap where it is one."""
    for step, value in every:
        near = [each for at, each in kept if abs(at - step) < width]
        if value is None:
            assert None in near
        else:
            finite = [each for each in near if each is not None]
            assert min(finite) <= value <= max(finite)


@given(cut_curves(), st.integers(1, 60))
def test_the_whole_curve_keeps_its_picture(parts, points):
    every = sum(parts, [])
    kept = thinned(parts, points)
    assert_same_picture(kept, every, points)
    width = (every[-1][0] - every[0][0] + 1) / max(1, points // 2)
    assert_close_everywhere(kept, every, max(1.0, width))


@given(cut_curves(), st.integers(1, 60), bounds())
def test_a_range_of_it_keeps_its_picture(parts, points, bounds):
    every = [point for part in parts for point in part if bounds[0] <= point[0] <= bounds[1]]
    kept = thinned(parts, points, bounds)
    assert_same_picture(kept, every, points)
    width = (bounds[1] - bounds[0] + 1) / max(1, points // 2)
    assert_close_everywhere(kept, every, max(1.0, width))


@given(cut_curves(most=40), bounds())
def test_few_points_are_all_there(parts, bounds):
    every = sum(parts, [])
    assert thinned(parts, len(every)) == every
    assert thinned(parts, len(every), bounds) == [
        point for point in every if bounds[0] <= point[0] <= bounds[1]
    ]


@given(st.data(), curves(), st.integers(1, 60))
def test_it_does_not_matter_how_the_curve_was_cut_into_batches(data, points, number):
    raw = thinned([points], number)
    assert thinned(data.draw(cut(points)), number) == raw
    assert thinned([[point] for point in points], number) == raw


@given(cut_curves(gaps=False, most=200))
def test_bounds_without_an_end_are_no_coarser(parts):
    every = sum(parts, [])
    for bounds in [(0, 2**62), (-(2**62), 2**62)]:
        assert thinned(parts, 20, bounds) == thinned(parts, 20)
    assert len(thinned(parts, 20, (0, 2**62))) >= min(len(every), 2)


def test_no_chunks_are_no_points():
    assert thin([], 100, lambda seqs: []) == []


def test_what_lies_in_one_bucket_is_counted_unread():
    parts = [
        [(step + offset, float(step + offset)) for offset in range(10)]
        for step in range(0, 1000, 10)
    ]
    asked = []

    def read(seqs):
        asked.extend(seqs)
        return [point for seq in seqs for point in parts[seq]]

    kept = thin([chunk(seq, part) for seq, part in enumerate(parts)], 20, read)
    assert len(kept) == 20
    assert set(asked) <= {0, 1, 98, 99}


def test_points_in_any_order_come_out_ascending():
    parts = [[(10, 1.0), (11, 2.0)], [(0, 3.0), (1, 4.0)]]
    assert thinned(parts, 100) == [(0, 3.0), (1, 4.0), (10, 1.0), (11, 2.0)]


@settings(max_examples=30)
@given(parts=cut_curves(most=60), points=st.integers(2, 40), bounds=st.none() | bounds())
def test_the_store_thins_like_the_pure_function(tmp_path_factory, parts, points, bounds):
    store = make_session(
        Home(tmp_path_factory.mktemp("home")),
        started(),
        *[metrics([step for step, _ in part], loss=[value for _, value in part]) for part in parts],
    )
    store.close()
    with SessionReader(store.folder) as reader:
        (found,) = series(reader.database, points=points, bounds=bounds)
    assert list(zip(found.steps, found.values)) == thinned(parts, points, bounds)
    assert found.count == sum(map(len, parts))
