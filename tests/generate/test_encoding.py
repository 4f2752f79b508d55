"""JPEGs with all of their chroma: written by our shards, read by plain FFCV and by ourselves."""

import io

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.datasets_manifest.beton_writer import stored_image
from genrep.datasets_manifest.verify import verify
from genrep.errors import RecipeError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.pixels import default_encoding, parse_encoding
from genrep.images.turbojpeg import jpeg_encoder


@pytest.fixture
def stripes():
    """Columns of red and green of one luma, a pixel wide: 4:2:0 can only make brown of them."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 0::2], image[:, 1::2] = (200, 0, 0), (0, 102, 0)
    return image


def error(image, encoding):
    decoded = Image.open(io.BytesIO(stored_image(image, encoding)))
    return float(np.abs(np.asarray(decoded).astype(int) - image).mean())


def test_444_keeps_colours_that_420_loses_at_any_quality(stripes):
    assert error(stripes, "jpeg:100") > 50
    assert error(stripes, "jpeg:90:444") < 3


def test_large_images_are_stored_with_all_of_their_chroma_by_default():
    assert default_encoding(64, 64) == "raw"
    assert default_encoding(128, 128) == default_encoding(384, 512) == "jpeg:90:444"


@pytest.mark.parametrize(
    "text", ["jpeg:90:420", "jpeg:90:", "jpeg:0:444", "jpeg:101:444", "jpeg::444", "raw:444", "jpeg"]
)
def test_what_is_no_encoding_is_refused(text):
    with pytest.raises(RecipeError, match="wanted raw or jpeg:Q"):
        parse_encoding(text)


@pytest.mark.ffcv
@pytest.mark.filterwarnings("ignore")
def test_plain_ffcv_and_our_own_reader_see_the_same_pictures(toy_folder):
    from ffcv.fields.decoders import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    config = {"gen": "toygen:plain", "device": "cpu", "num_pairs": 20, "shard_size": "20", "processes": 1}
    for name, encoding in (("exact", "raw"), ("jpeg", "jpeg:90:444")):
        build_dataset(BuildConfig(out=toy_folder / name, encoding=encoding, **config))
    assert verify(toy_folder / "jpeg", level="full") == []
    unread = dict.fromkeys(("positive", "z_anchor", "z_positive", "label", "index"))
    pipelines = {"anchor": [SimpleRGBImageDecoder(), ToTensor()], **unread}
    path = str(toy_folder / "jpeg" / "shard-00000.beton")
    loader = Loader(path, batch_size=20, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    anchors = next(iter(loader))[0].numpy()
    exact, ours = datasets_manifest.open(toy_folder / "exact"), datasets_manifest.open(toy_folder / "jpeg")
    for i in range(20):
        for found in (anchors[i], ours[i]["anchor"]):
            assert np.abs(found.astype(int) - exact[i]["anchor"]).mean() < 3


def test_the_encoder_of_jpegs_is_recorded(toy_folder):
    config = {"gen": "toygen:plain", "device": "cpu", "num_pairs": 2, "processes": 1}
    for encoding, recorded in (("raw", None), ("jpeg:90:444", jpeg_encoder())):
        manifest = build_dataset(BuildConfig(out=toy_folder / encoding, encoding=encoding, **config)).manifest
        (packages,) = manifest.build["packages"]
        assert packages.get("jpeg") == recorded
        assert packages.keys() - {"jpeg"} == {"python", "genrep", "torch", "numpy", "pillow"}
