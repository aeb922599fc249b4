"""Pictures in and out: what is understood comes back as it was, and what is not is refused."""

import numpy as np
import pytest
import small_models

import milwright

HEIGHT, WIDTH = 4, 6
RGB = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = RGB[..., 0]


def model(color, images="array", size=(HEIGHT, WIDTH)):
    return milwright.Model.from_bytes(small_models.picture(color, *size), images=images)


def planes(color):
    """What the program is to see."""
    if color == small_models.GRAYSCALE:
        return GRAY[None, None].astype(np.float32)
    pixels = RGB if color == small_models.RGB else RGB[..., ::-1]
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


COLORS = [small_models.RGB, small_models.BGR, small_models.GRAYSCALE]


@pytest.mark.parametrize("color", COLORS)
def test_pixels_as_libraries_have_them_are_understood(color):
    pixels = GRAY if color == small_models.GRAYSCALE else RGB
    forms = [pixels, pixels[None], planes(color), planes(color)[0], planes(color).astype(np.uint8)]
    if color == small_models.GRAYSCALE:
        forms += [pixels[..., None], pixels[None, ..., None]]
    for form in forms:
        found = model(color).predict({"photo": form})["copy"]
        assert np.array_equal(found, planes(color)), form.shape


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize(
    "wrong",
    [
        RGB.astype(np.float32),
        RGB / 255.0,
        RGB.transpose(1, 0, 2),
        np.dstack([RGB, GRAY]),
        np.zeros((2, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((HEIGHT * WIDTH * 3,), np.uint8),
        np.zeros((HEIGHT, 3, WIDTH), np.uint8),
    ],
    ids=["float pixels", "fractions", "turned", "RGBA", "two pictures", "flat", "rows of planes"],
)
def test_what_could_be_scrambled_is_refused(color, wrong):
    with pytest.raises(milwright.InputError, match="photo"):
        model(color).predict({"photo": wrong})


def test_small_pictures_that_could_be_either_are_what_their_type_says():
    pixels = RGB[:3, :3]
    small = model(small_models.RGB, size=(3, 3))
    assert np.array_equal(small.predict({"photo": pixels})["copy"][0], pixels.transpose(2, 0, 1))
    floats = pixels.astype(np.float32)
    assert np.array_equal(small.predict({"photo": floats})["copy"][0], floats)


@pytest.mark.parametrize("color", COLORS)
def test_image_outputs_are_pil_images(color):
    image = pytest.importorskip("PIL.Image")
    gray = color == small_models.GRAYSCALE
    photo = image.fromarray(GRAY if gray else RGB)
    copy = model(color, images="pil").predict({"photo": photo})["copy"]
    assert copy.mode == ("L" if gray else "RGBA") and copy.size == (WIDTH, HEIGHT)
    assert np.array_equal(np.asarray(copy.convert(photo.mode)), np.asarray(photo))
    with pytest.raises(milwright.InputError, match="5 × 4 pixels"):
        model(color).predict({"photo": photo.resize((5, 4))})


@pytest.mark.parametrize("shape", [(2,), (2, 2), (1, 9, 2, 2), (2, 3, 2, 2), (1, 3, 0, 2), (1, 1, 2, 2)])
def test_an_output_that_is_no_picture_is_an_error(tmp_path, shape):
    pytest.importorskip("PIL.Image")
    path = tmp_path / "declared.mlmodel"
    path.write_bytes(small_models.declared_picture(small_models.RGB, shape))
    x = np.zeros(shape, np.float32)
    with pytest.raises(milwright.UnsupportedError, match="`copy` is declared as an image of RGB"):
        milwright.Model(path, images="pil").predict({"x": x})
    assert milwright.Model(path, images="array").predict({"x": x})["copy"].shape == shape


def test_the_form_of_images_is_checked():
    with pytest.raises(milwright.InputError, match="jpeg"):
        model(small_models.RGB, images="jpeg")


def test_pictures_of_another_size_are_fitted_as_asked(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "picture.mlmodel"
    path.write_bytes(small_models.picture(small_models.RGB, HEIGHT, WIDTH))
    folder = tmp_path / "photos"
    folder.mkdir()
    image.fromarray(np.zeros((HEIGHT + 3, WIDTH + 8, 3), np.uint8)).save(folder / "photo.png")
    for fit in ("crop", "pad", "stretch"):
        (copy,) = milwright.compare(path, path, inputs=folder, fit=fit)
        assert copy["snr_db"] == "equal"
    with pytest.raises(milwright.InputError, match="photo.png"):
        milwright.compare(path, path, inputs=folder, fit="exact")
    with pytest.raises(milwright.InputError, match="squash"):
        milwright.compare(path, path, inputs=folder, fit="squash")


def test_sets_of_pictures_prove_a_model(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "picture.mlmodel"
    path.write_bytes(small_models.picture(small_models.BGR, HEIGHT, WIDTH))
    for photo in (RGB, image.fromarray(RGB), planes(small_models.BGR)):
        (copy,) = milwright.compare(path, path, inputs=[{"photo": photo}] * 2)
        assert copy["snr_db"] == "equal" and copy["inputs"] == {"kind": "given", "folder": None}
    with pytest.raises(milwright.InputError, match="photo"):
        milwright.compare(path, path, inputs=[{"photo": RGB.astype(np.float32)}])
    with pytest.raises(milwright.InputError, match="empty"):
        milwright.compare(path, path, inputs=[])


def test_a_file_is_described_without_being_loaded(tmp_path):
    path = tmp_path / "picture.mlmodel"
    path.write_bytes(small_models.picture(small_models.RGB, HEIGHT, WIDTH))
    (function,) = milwright.inspect(path)["functions"]
    assert function["inputs"][0]["name"] == "photo" and function["inputs"][0]["ty"]["kind"] == "image"
