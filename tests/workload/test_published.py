"""Workloads on published data, tried on small folders of the same formats."""

import io

import numpy as np
import pytest
import torch

from thalweg import train, workload
from thalweg.core.errors import UsageError
from thalweg.workload import Batches, imagenet, librispeech, reconstruction


def test_names_need_a_folder(tmp_path):
    assert not set(workload.published()) & set(workload.names())
    for name in workload.published():
        for given in (name, f"{name}:", f"{name}:{tmp_path / 'none'}"):
            with pytest.raises(UsageError, match=f"give one: {name}:FOLDER"):
                workload.load(given)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("imagenet-resnet", "datasets"),
        ("imagenet-vit", "datasets"),
        ("fastmri-unet", "h5py"),
        ("librispeech-ctc", "soundfile"),
    ],
)
def test_missing_packages_name_the_extra(name, package, monkeypatch, tmp_path):
    monkeypatch.setattr("thalweg.workload.package.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf'{package}.*pip install "thalweg\[published\]"'):
        workload.load(f"{name}:{tmp_path}")


def picture(number, size=(70, 50)):
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    return image.fromarray(pixels)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "imagenet"
    for part, count in (("train", 4), ("val", 3)):
        for name in ("n01440764", "n01443537", "n01484850"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                picture(number).save(folder / part / name / f"{name}_{number}.JPEG")
    return folder


def test_imagenet_from_folders_of_images(pictures):
    found = workload.load(f"imagenet-resnet:{pictures}")
    assert (len(found.train), len(found.validation)) == (12, 9)
    assert found.model().head.out_features == 3
    images, labels = found.validation.__getitems__(list(range(9)))
    assert images.shape == (9, 3, 224, 224)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(found.validation[4][0], images[4:5])
    batches = [
        Batches(found.train, 3, seed=seed, collate=found.collate).at(0) for seed in (0, 0, 1)
    ]
    assert torch.equal(batches[0][0], batches[1][0])
    assert not torch.equal(batches[0][0], batches[2][0])
    torch.manual_seed(0)
    assert found.loss(found.model(), batches[0]).isfinite()


def test_imagenet_from_parquet(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "imagenet-1k"
    folder.mkdir()
    for part in ("train", "validation"):
        rows = []
        for number in range(4):
            kept = io.BytesIO()
            picture(number).save(kept, "PNG")
            rows.append({"bytes": kept.getvalue(), "path": None})
        table = datasets.Dataset.from_dict({"image": rows, "label": [0, 1, 0, 1]})
        table.to_parquet(str(folder / f"{part}-00000-of-00001.parquet"))
    found = workload.load(f"imagenet-vit:{folder}")
    images, labels = found.validation.__getitems__([1, 2])
    assert labels.tolist() == [1, 0]
    assert images.shape == (2, 3, 224, 224)
    model = found.model()
    assert model.head.out_features == 2
    assert sum(p.numel() for p in model.parameters()) == 22_050_664 - 998 * 385


def test_an_image_that_cannot_be_read(pictures):
    (pictures / "val" / "n01440764" / "n01440764_1.JPEG").write_bytes(b"no image")
    found = workload.load(f"imagenet-resnet:{pictures}")
    with pytest.raises(UsageError, match="cannot read the image"):
        found.validation[1]


def test_imagenet_folders_that_cannot_be_read(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(UsageError, match=r"imagenet-vit: .* cannot be read: .*expected parquet"):
        workload.load(f"imagenet-vit:{tmp_path}")


def test_the_middle_of_an_image():
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((256, 300, 3), np.uint8)
    pixels[16:240, 38:262] = 255
    white = imagenet.middle(image.fromarray(pixels))
    assert white.size == (224, 224)
    assert np.array(white).min() == 255
    scaled = imagenet.tensor(white)
    expected = (1 - imagenet._MEAN) / imagenet._DEVIATION
    assert torch.allclose(scaled[:, 5, 7], expected)


def test_random_crops_keep_to_area_and_sides():
    boxes = []

    class Image:
        size = (300, 200)

        def resize(self, size, resample, box):
            boxes.append((*box, size))
            return self

        def transpose(self, how):
            boxes[-1] += ("flipped",)
            return self

    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        imagenet.random_crop(Image(), generator)
    shares, ratios = [], []
    for left, top, right, bottom, size, *_ in boxes:
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 200
        assert size == (224, 224)
        shares.append((right - left) * (bottom - top) / 60_000)
        ratios.append((right - left) / (bottom - top))
    assert min(shares) > 0.07
    assert max(shares) > 0.8
    assert min(ratios) > 0.72
    assert max(ratios) < 1.6  # 300 : 200 where the height was cut off
    assert 160 < sum("flipped" in box for box in boxes) < 240


@pytest.fixture
def knees(tmp_path):
    h5py = pytest.importorskip("h5py")
    random = np.random.default_rng(0)
    for part, count in (("singlecoil_train", 2), ("singlecoil_val", 1)):
        (tmp_path / part).mkdir()
        for number in range(count):
            image = random.normal(size=(3, 40, 36)) + 1j * random.normal(size=(3, 40, 36))
            kspace = np.fft.fftshift(
                np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2)), norm="ortho"), axes=(1, 2)
            )
            with h5py.File(tmp_path / part / f"file{number}.h5", "w") as file:
                file["kspace"] = kspace.astype(np.complex64)
                file["reconstruction_esc"] = np.abs(image[:, 4:36, 2:34]).astype(np.float32)
                file.attrs["max"] = np.abs(image[:, 4:36, 2:34]).max()
    return tmp_path


def test_fastmri(knees, monkeypatch):
    found = workload.load(f"fastmri-unet:{knees}")
    assert (len(found.train), len(found.validation)) == (6, 3)
    assert found.name == f"fastmri-unet:{knees.resolve()}"
    assert len(workload.load(found.name).train) == 6
    one, again = found.validation[1], found.validation[1]
    assert torch.equal(one.inputs, again.inputs)
    assert one.inputs.shape == one.targets.shape == (1, 1, 32, 32)
    assert not torch.equal(found.train[1].inputs, found.train[1].inputs)
    batch = found.collate([found.train[0], found.train[3]])
    assert isinstance(batch, reconstruction.Slices)
    assert batch.inputs.shape == (2, 1, 32, 32)
    assert batch.largest[0] != batch.largest[1]
    assert found.loss(found.model(), batch).isfinite()
    assert found.metric(found.model().eval(), batch).shape == (2,)

    # With all of k-space the reconstruction is the published one.
    everything = lambda count, columns, **rest: torch.ones(count, columns, dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr("thalweg.workload.fastmri.random_masks", everything)
    whole = found.validation[2]
    assert torch.allclose(whole.inputs, whole.targets, atol=1e-4)


def test_fastmri_folders_that_cannot_be_read(knees):
    h5py = pytest.importorskip("h5py")
    with h5py.File(knees / "singlecoil_val" / "other.h5", "w") as file:
        file["kspace"] = np.zeros((1, 4, 4), np.complex64)
    with pytest.raises(UsageError, match=r"other.h5 is no single-coil volume"):
        workload.load(f"fastmri-unet:{knees}")
    with h5py.File(knees / "singlecoil_val" / "other.h5", "a") as file:
        file["reconstruction_esc"] = np.zeros((2, 4, 4), np.float32)
        file.attrs["max"] = 1.0
    with pytest.raises(UsageError, match=r"\(1, 4, 4\) and reconstruction_esc \(2, 4, 4\)"):
        workload.load(f"fastmri-unet:{knees}")
    (knees / "singlecoil_val" / "other.h5").write_text("no HDF5")
    with pytest.raises(UsageError, match=r"other.h5 is no single-coil volume"):
        workload.load(f"fastmri-unet:{knees}")
    with pytest.raises(UsageError, match=r"found no \*.h5 in"):
        workload.load(f"fastmri-unet:{knees / 'singlecoil_train'}")


TEXTS = {
    "train-clean-100": ["HELLO WORLD", "IT'S ME"],
    "dev-clean": ["A B C D"],
    "dev-other": ["A B"],
}


@pytest.fixture
def readings(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for part, texts in TEXTS.items():
        chapter = tmp_path / part / "19" / "198"
        chapter.mkdir(parents=True)
        lines = []
        for number, text in enumerate(texts):
            seconds = 1 + number
            sound = np.random.default_rng(number).normal(size=16_000 * seconds) / 10
            soundfile.write(chapter / f"19-198-000{number}.flac", sound, 16_000)
            lines.append(f"19-198-000{number} {text}\n")
        (chapter / "19-198.trans.txt").write_text("".join(lines))
    return tmp_path


def test_librispeech(readings):
    found = workload.load(f"librispeech-ctc:{readings}")
    assert (len(found.train), len(found.validation)) == (2, 2)
    features, symbols = found.train[1]
    assert features.shape == (1 + (32_000 - 512) // 160, 80)
    assert librispeech.words(symbols.tolist()) == ["IT'S", "ME"]
    batch = found.collate([found.train[0], found.train[1]])
    assert batch.features.shape == (2, 197, 80)
    assert batch.lengths.tolist() == [11, 7]
    small = workload.workload.Workload(
        **{
            field: getattr(found, field)
            for field in found.__dataclass_fields__
            if field not in ("model", "batch_size", "steps", "evaluate_every")
        },
        model=lambda: librispeech.SpeechNet(80, width=8, layers=1, classes=29),
        batch_size=2,
        steps=2,
        evaluate_every=2,
    )
    assert np.isfinite(train.fit(small, "sgd(lr=1e-3)").final_metric)


def test_librispeech_counts_words(readings):
    found = workload.load(f"librispeech-ctc:{readings}")
    batch = found.collate([found.validation[0], found.validation[1]])

    def says(features, frames):
        path = torch.tensor([1 + librispeech.CHARACTERS.index(letter) for letter in "A B  D"])
        steps = torch.full_like(frames, len(path))
        return torch.nn.functional.one_hot(path.expand(2, -1), 29).float(), steps

    # Of "A B C D" the C is missing, to "A B" a D was added; 3 words are the mean.
    assert found.metric(says, batch).tolist() == pytest.approx([1 / 3, 1 / 3])


def test_librispeech_has_the_published_size():
    with torch.device("meta"):
        model = librispeech.SpeechNet(80, width=512, layers=6, classes=29)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert f"{millions:.0f} million parameters" in librispeech.build.__doc__


def test_librispeech_folders_that_cannot_be_read(readings):
    soundfile = pytest.importorskip("soundfile")
    found = workload.load(f"librispeech-ctc:{readings}")
    chapter = readings / "train-clean-100" / "19" / "198"
    soundfile.write(chapter / "19-198-0000.flac", np.zeros(8000), 8000)
    with pytest.raises(UsageError, match="has 8000 samples a second"):
        found.train[0]
    (chapter / "19-198-0000.flac").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*19-198-0000.flac"):
        found.train[0]
    (chapter / "19-198.trans.txt").write_text("19-198-0000 hello\n")
    with pytest.raises(UsageError, match=r"has the text 'hello'; expected capital letters"):
        workload.load(f"librispeech-ctc:{readings}")
    with pytest.raises(UsageError, match=r"found no \*/\*/\*.trans.txt"):
        workload.load(f"librispeech-ctc:{chapter}")
