"""KDAM, DIST and plain KD against numpy, masks, readings: python -m pytest tests/losses/test_distill.py"""

import numpy as np
import pytest
import torch

from kdam_ray.losses import dist, kdam, plain_kd

READINGS = ("channels", "bernoulli", "spatial")
every_reading = pytest.mark.parametrize("reading", READINGS)


def literal_kdam(*logits, **options):
    return kdam(*logits, **options, literal=True)


def only_kd(*logits, **options):
    return (plain_kd(*logits, **options),)


METHODS = {"kdam": kdam, "literal": literal_kdam, "dist": dist, "plain_kd": only_kd}
every_method = pytest.mark.parametrize("method", METHODS)


# two ways to the same number are compared in float64, where no processor's order of sums decides
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def logits(*shape, seed, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).mul(2).to(dtype)


def some_pixels(batch, height, width, seed=0):
    """A third masked out, at random; in a batch of more than one, all of the last image."""
    mask = torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed)) > 1 / 3
    if batch > 1:
        mask[-1] = False
    return mask


# ------------------------------------------------------------------ an independent reference: numpy, float64, loops


def table(z, mask, reading, temperature):
    """Rows x columns, NaN where an entry does not count."""
    z = z.double().numpy() / temperature
    z = np.where(mask.numpy(), z, -np.inf if reading == "spatial" else np.nan)
    _, channels, height, width = z.shape
    if reading == "channels":
        rows = np.exp(z.transpose(0, 2, 3, 1).reshape(-1, channels))
        return rows / rows.sum(1, keepdims=True)
    if reading == "bernoulli":
        return np.stack((1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))), -1).reshape(-1, 2)
    rows = np.exp(z.reshape(-1, height * width))
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(z.reshape(rows.shape)), rows / rows.sum(1, keepdims=True), np.nan)


def distance(method, p, q):
    if method == "kdam":
        return -np.log((p @ q) / np.sqrt((p @ p) * (q @ q)))
    if method == "literal":
        return -np.log((p @ q) / np.sqrt(p.sum() * q.sum()))
    if method == "plain_kd":
        return (q * np.log(q / p)).sum()
    p, q = p - p.mean(), q - q.mean()
    return 1 - (p @ q) / np.sqrt((p @ p) * (q @ q))


def mean_distance(method, p, q):
    """Over the rows that have an entry."""
    valid = ~np.isnan(q)
    return np.mean([distance(method, a[v], b[v]) for a, b, v in zip(p, q, valid, strict=True) if v.any()])


def naive(method, student, teacher, *, temperature, reading, mask):
    p, q = (table(z, mask, reading, temperature) for z in (student, teacher))
    if method == "plain_kd":
        return (temperature**2 * mean_distance(method, p, q),)
    return mean_distance(method, p, q), mean_distance(method, p.T, q.T)


@every_method
@every_reading
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
# rows of two have a correlation of +-1: 1 - it is 0 or 2 to float32's rounding, in float64 to what the epsilon is worth
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float32, 2e-5, 1e-6), (torch.float64, 1e-9, 1e-7)])
def test_equals_the_definition(method, reading, masked, temperature, dtype, rtol, atol):
    student, teacher = (logits(5, 4, 5, 6, seed=seed, dtype=dtype) for seed in (1, 2))
    mask = some_pixels(5, 5, 6) if masked else torch.ones(5, 1, 5, 6, dtype=torch.bool)
    expected = naive(method, student, teacher, temperature=temperature, reading=reading, mask=mask)
    values = METHODS[method](student, teacher, temperature=temperature, reading=reading, mask=mask if masked else None)
    np.testing.assert_allclose([value.item() for value in values], expected, rtol=rtol, atol=atol)


@every_method
@every_reading
def test_gradients_are_those_of_finite_differences(method, reading):
    student, teacher = (logits(3, 3, 2, 3, seed=seed, dtype=torch.float64) for seed in (3, 4))
    options = {"temperature": 1.5, "reading": reading, "mask": some_pixels(3, 2, 3, seed=5)}
    assert torch.autograd.gradcheck(lambda z: METHODS[method](z, teacher, **options), (student.requires_grad_(),))


@every_method
@every_reading
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("double", [0, 1])
def test_where_one_is_float64_both_are(method, reading, masked, double):
    both = [logits(3, 4, 5, 6, seed=seed) for seed in (1, 2)]
    options = {"temperature": 3.0, "reading": reading, "mask": some_pixels(3, 5, 6) if masked else None}
    values = METHODS[method](*(z.double() if which == double else z for which, z in enumerate(both)), **options)
    assert all(value.dtype == torch.float64 for value in values)
    exact = METHODS[method](*(z.double() for z in both), **options)
    assert [value.item() for value in values] == [value.item() for value in exact]


# ------------------------------------------------------------------ hand values


@pytest.mark.parametrize(
    ("student", "literal", "expected"),
    [
        ((0.6, 0.3, 0.1), False, 0.0),
        ((1.0, 0.0, 0.0), False, 0.1226),
        ((0.6, 0.3, 0.1), True, 0.7765),
        ((1.0, 0.0, 0.0), True, 0.5108),
    ],
)
def test_one_pixel_by_hand(student, literal, expected):
    # a column of one pixel is proportional to any other, so squared intra is 0; as printed, -ln(pq / sqrt(pq)) =
    # -ln(pq) / 2
    teacher = torch.tensor((0.6, 0.3, 0.1))
    as_logits = [p.clamp_min(1e-9).log().view(1, 3, 1, 1) for p in (torch.tensor(student), teacher)]
    inter, intra = kdam(*as_logits, temperature=1, reading="channels", literal=literal)
    assert inter.item() == pytest.approx(expected, abs=1e-4)
    if not literal:
        assert intra.item() == pytest.approx(0, abs=1e-5)


def test_plain_kd_by_hand():
    # T = 2 of (2 ln 3, 0) is (.75, .25); against (.5, .5): 4 (.5 ln(.5 / .75) + .5 ln(.5 / .25))
    student = torch.tensor((2 * np.log(3), 0.0)).float().view(1, 2, 1, 1)
    value = plain_kd(student, torch.zeros(1, 2, 1, 1), temperature=2, reading="channels")
    assert value.item() == pytest.approx(4 * 0.143841, abs=1e-5)


# ------------------------------------------------------------------ laws


@every_method
@every_reading
def test_law_4_zero_at_equality_positive_elsewhere(method, reading):
    student, teacher = (logits(3, 4, 5, 6, seed=seed) for seed in (6, 7))
    for mask in (None, some_pixels(3, 5, 6)):
        options = {"temperature": 2, "reading": reading, "mask": mask}
        if method != "literal":
            assert all(abs(value.item()) < 2e-7 for value in METHODS[method](teacher, teacher, **options))
        assert all(value.item() > 1e-4 for value in METHODS[method](student, teacher, **options))


@every_method
@every_reading
def test_law_4_finite_where_probabilities_are_zero(method, reading):
    student = torch.zeros(2, 3, 2, 2)
    student[:, 0, 0] = 1000.0
    teacher = -student
    student = student.requires_grad_()
    values = METHODS[method](student, teacher, temperature=1, reading=reading)
    sum(values).backward()
    assert all(value.isfinite() for value in values)
    assert student.grad.isfinite().all()


@every_method
@every_reading
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_float32_arithmetic(method, reading, dtype):
    student, teacher = (logits(2, 4, 5, 6, seed=seed, dtype=dtype) for seed in (8, 9))
    values = METHODS[method](student.requires_grad_(), teacher, temperature=3, reading=reading)
    sum(values).backward()
    wide = METHODS[method](student.detach().float(), teacher.float(), temperature=3, reading=reading)
    assert [value.dtype for value in values] == [torch.float32] * len(values)
    assert [value.item() for value in values] == [value.item() for value in wide]
    assert student.grad.dtype == dtype


@every_method
@every_reading
def test_law_1_the_same_bits_again(method, reading):
    def once():
        student, teacher = (logits(4, 5, 12, 16, seed=seed) for seed in (10, 11))
        values = METHODS[method](
            student.requires_grad_(), teacher, temperature=1, reading=reading, mask=some_pixels(4, 12, 16)
        )
        sum(values).backward()
        return *values, student.grad

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)


@every_method
def test_the_teacher_learns_nothing(method):
    student, teacher = (logits(2, 4, 3, 3, seed=seed).requires_grad_() for seed in (12, 13))
    sum(METHODS[method](student, teacher, temperature=1, reading="channels")).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


# ------------------------------------------------------------------ masks


@every_method
@pytest.mark.parametrize("reading", ["channels", "bernoulli"])
def test_a_mask_of_pixels_equals_the_subset_of_pixels(method, reading):
    student, teacher = (logits(3, 4, 5, 6, seed=seed, dtype=torch.float64) for seed in (14, 15))
    mask = some_pixels(3, 5, 6)
    subset = [z.movedim(1, -1)[mask[:, 0]].T.reshape(1, 4, 1, -1) for z in (student, teacher)]
    masked = METHODS[method](student, teacher, temperature=1, reading=reading, mask=mask)
    torch.testing.assert_close(masked, METHODS[method](*subset, temperature=1, reading=reading), **EXACT)


@every_method
def test_a_spatial_mask_of_a_rectangle_equals_its_crop(method):
    student, teacher = (logits(3, 2, 5, 6, seed=seed, dtype=torch.float64) for seed in (16, 17))
    mask = torch.zeros(3, 1, 5, 6, dtype=torch.bool)
    mask[..., 1:4, 2:] = True
    masked = METHODS[method](student, teacher, temperature=1, reading="spatial", mask=mask)
    crop = METHODS[method](student[..., 1:4, 2:], teacher[..., 1:4, 2:], temperature=1, reading="spatial")
    torch.testing.assert_close(masked, crop, **EXACT)


@every_method
@every_reading
def test_an_image_without_valid_pixels_might_as_well_not_be_there(method, reading):
    student, teacher = (logits(3, 4, 5, 6, seed=seed, dtype=torch.float64) for seed in (18, 19))
    mask = torch.ones(3, 1, 5, 6, dtype=torch.bool)
    mask[1] = False
    masked = METHODS[method](student, teacher, temperature=1, reading=reading, mask=mask)
    without = METHODS[method](student[[0, 2]], teacher[[0, 2]], temperature=1, reading=reading)
    torch.testing.assert_close(masked, without, **EXACT)


@every_method
@every_reading
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_is_masked_out_cannot_be_seen(method, reading, poison):
    student, teacher = (logits(3, 4, 5, 6, seed=seed) for seed in (20, 21))
    options = {"temperature": 2, "reading": reading, "mask": some_pixels(3, 5, 6)}
    hidden = ~options["mask"].expand_as(student)
    clean = METHODS[method](student, teacher, **options)
    student, teacher = student.masked_fill(hidden, poison).requires_grad_(), teacher.masked_fill(hidden, poison)
    values = METHODS[method](student, teacher, **options)
    sum(values).backward()
    assert [value.item() for value in values] == [value.item() for value in clean]
    assert (student.grad[hidden] == 0).all()
    assert student.grad.isfinite().all()


@every_method
@pytest.mark.parametrize("reading", [*READINGS, "skip"])
def test_nothing_valid_is_a_connected_zero(method, reading):
    student = logits(2, 4, 3, 3, seed=22).requires_grad_()
    values = METHODS[method](
        student, logits(2, 4, 3, 3, seed=23), temperature=1, reading=reading, mask=torch.zeros(2, 1, 3, 3).bool()
    )
    sum(values).backward()
    assert [value.item() for value in values] == [0] * len(values)
    assert (student.grad == 0).all()


# ------------------------------------------------------------------ readings


@every_method
def test_skip_is_zero_even_for_nan(method):
    student = torch.full((2, 4, 3, 3), float("nan"), requires_grad=True)
    values = METHODS[method](student, student, temperature=1, reading="skip")
    sum(values).backward()
    assert [value.item() for value in values] == [0] * len(values)
    assert (student.grad == 0).all()


@pytest.mark.parametrize("method", ["kdam", "dist", "plain_kd"])
def test_one_channel_read_as_channels_teaches_nothing(method):
    student = logits(2, 1, 5, 6, seed=24).requires_grad_()
    values = METHODS[method](
        student, logits(2, 1, 5, 6, seed=25), temperature=1, reading="channels", mask=some_pixels(2, 5, 6)
    )
    sum(values).backward()
    assert [value.item() for value in values] == pytest.approx([0] * len(values), abs=2e-7)
    assert student.grad.abs().max() < 1e-6


@every_method
def test_a_bernoulli_is_a_softmax_against_zero(method):
    student, teacher = (logits(2, 1, 5, 6, seed=seed, dtype=torch.float64) for seed in (26, 27))
    two = [torch.cat((z, torch.zeros_like(z)), 1) for z in (student, teacher)]
    bernoulli = METHODS[method](student, teacher, temperature=2, reading="bernoulli")
    torch.testing.assert_close(bernoulli, METHODS[method](*two, temperature=2, reading="channels"), **EXACT)


@every_method
@every_reading
def test_the_memory_layout_does_not_matter(method, reading):
    student, teacher = (logits(2, 4, 5, 6, seed=seed, dtype=torch.float64) for seed in (28, 29))
    last = [z.to(memory_format=torch.channels_last) for z in (student, teacher)]
    torch.testing.assert_close(
        METHODS[method](*last, temperature=1, reading=reading),
        METHODS[method](student, teacher, temperature=1, reading=reading), **EXACT,
    )  # fmt: skip


# ------------------------------------------------------------------ bad input


@every_method
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": torch.zeros(2, 4, 3, 4)}, r"teacher \[2, 4, 3, 4\]"),
        ({"temperature": 0.0}, "temperature must be greater than 0"),
        ({"temperature": float("nan")}, "temperature must be greater than 0"),
        ({"reading": "rows"}, "'rows' is not one of: channels, bernoulli, spatial, skip"),
        ({"mask": torch.zeros(2, 3, 3).bool()}, r"mask must be bool \[2, 1, 3, 3\]"),
        ({"mask": torch.zeros(2, 1, 3, 3)}, r"mask must be bool"),
    ],
)
def test_bad_input_is_named(method, changes, message):
    arguments = {"teacher": torch.zeros(2, 4, 3, 3), "temperature": 1.0, "reading": "channels", "mask": None} | changes
    with pytest.raises(ValueError, match=message):
        METHODS[method](torch.zeros(2, 4, 3, 3), arguments.pop("teacher"), **arguments)
