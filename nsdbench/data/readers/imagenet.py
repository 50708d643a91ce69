"""The six ten-class ImageNet subsets of MTT, read from a local copy of ILSVRC 2012."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITH_FLIP, IMAGENET_STATISTICS, DatasetSpec, Source
from nsdbench.data.readers.class_folders import list_classes
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    from nsdbench.data.split import Split

# Class index (0..999) -> class id. The index is the rank of the id among the 1,000 sorted ids, the
# order of an ImageFolder (checked against timm's imagenet_synsets.txt). The indices are MTT's
# (utils.py, class Config); a label is the position in the subset, so the order matters.
SUBSETS: dict[str, dict[int, str]] = {
    "ImageNette": {
        0: "n01440764",  # tench
        217: "n02102040",  # English springer
        482: "n02979186",  # cassette player
        491: "n03000684",  # chain saw
        497: "n03028079",  # church
        566: "n03394916",  # French horn
        569: "n03417042",  # garbage truck
        571: "n03425413",  # gas pump
        574: "n03445777",  # golf ball
        701: "n03888257",  # parachute
    },
    "ImageWoof": {
        193: "n02096294",  # Australian terrier
        182: "n02093754",  # Border terrier
        258: "n02111889",  # Samoyed
        162: "n02088364",  # beagle
        155: "n02086240",  # Shih-Tzu
        167: "n02089973",  # English foxhound
        159: "n02087394",  # Rhodesian ridgeback
        273: "n02115641",  # dingo
        207: "n02099601",  # golden retriever
        229: "n02105641",  # Old English sheepdog
    },
    "ImageFruit": {
        953: "n07753275",  # pineapple
        954: "n07753592",  # banana
        949: "n07745940",  # strawberry
        950: "n07747607",  # orange
        951: "n07749582",  # lemon
        957: "n07768694",  # pomegranate
        952: "n07753113",  # fig
        945: "n07720875",  # bell pepper
        943: "n07718472",  # cucumber
        948: "n07742313",  # Granny Smith
    },
    "ImageMeow": {
        281: "n02123045",  # tabby
        282: "n02123159",  # tiger cat
        283: "n02123394",  # Persian cat
        284: "n02123597",  # Siamese cat
        285: "n02124075",  # Egyptian cat
        291: "n02129165",  # lion
        292: "n02129604",  # tiger
        290: "n02128925",  # jaguar
        289: "n02128757",  # snow leopard
        287: "n02127052",  # lynx
    },
    "ImageSquawk": {
        84: "n01806143",  # peacock
        130: "n02007558",  # flamingo
        88: "n01818515",  # macaw
        144: "n02051845",  # pelican
        145: "n02056570",  # king penguin
        22: "n01614925",  # bald eagle
        96: "n01843383",  # toucan
        9: "n01518878",  # ostrich
        100: "n01860187",  # black swan
        89: "n01819313",  # sulphur-crested cockatoo
    },
    "ImageYellow": {
        309: "n02206856",  # bee
        986: "n12057211",  # yellow lady's slipper
        954: "n07753592",  # banana
        951: "n07749582",  # lemon
        987: "n12144580",  # corn
        779: "n04146614",  # school bus
        599: "n03530642",  # honeycomb
        291: "n02129165",  # lion
        72: "n01773157",  # black and gold garden spider
        11: "n01531178",  # goldfinch
    },
}

# Fewest and most training images of a class in ILSVRC 2012 (Russakovsky et al. 2015, table 2).
TRAIN_IMAGES_PER_CLASS = (732, 1300)

# Kaggle's archive keeps the pictures in ILSVRC/Data/CLS-LOC and the labels at its top.
SOLUTION = "LOC_val_solution.csv"
SOLUTION_PLACES = (SOLUTION, f"../../../{SOLUTION}")


def wnids(name: str) -> list[str]:
    """The class ids of a subset, in label order."""
    return list(SUBSETS[name].values())


def read(
    folder: Path,
    spec: DatasetSpec,
    part: str,
    train_images_per_class: tuple[int, int] = TRAIN_IMAGES_PER_CLASS,
) -> "Split":
    """Read one split of a subset, resized to exactly 128 x 128 and cached.

    Args:
        folder: holds train/ID/*.JPEG and either val/ID/*.JPEG or val/*.JPEG beside Kaggle's
            LOC_val_solution.csv.
        spec: of a subset; its test size says how many validation images each class must have.
        part: "train" or "test".
        train_images_per_class: fewest and most that are accepted.

    Raises:
        DataMissing: a class folder is absent.
        DataCorrupt: a count is impossible for ILSVRC 2012 (other splits under the same name, such
            as fast.ai's imagenette2, divide the images differently), or a file does not decode.
    """
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    classes = wnids(spec.name)
    if part == "train":
        files, labels = list_classes(folder / "train", classes)
        fewest, most = train_images_per_class
    else:
        files, labels = _list_validation(folder, classes)
        fewest = most = spec.test_size // spec.num_classes
    for label, wnid in enumerate(classes):
        count = labels.count(label)
        if not fewest <= count <= most:
            expected = str(most) if fewest == most else f"{fewest}..{most}"
            raise DataCorrupt(
                f"{folder}: expected {expected} {part} images of {wnid} as in ILSVRC 2012, got "
                f"{count}; the suite needs the original training and validation folders"
            )
    images = decode_all(files, spec.image_shape, is_resized=True)
    return Split(images, torch.tensor(labels))


def _list_validation(folder: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    solution = next((folder / p for p in SOLUTION_PLACES if (folder / p).is_file()), None)
    if (folder / "val" / classes[0]).is_dir() or solution is None:
        return list_classes(folder / "val", classes)
    # one line per image: ImageId,"ID x1 y1 x2 y2 ID x1 ..."; all boxes of an image have one class
    try:
        with solution.open(newline="", encoding="utf-8-sig") as lines:
            rows = [(row[0], row[1].split(" ", 1)[0]) for row in csv.reader(lines) if len(row) == 2]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{solution}: not a CSV file in UTF-8 ({error})") from error
    pictures = sorted((classes.index(wnid), name) for name, wnid in rows if wnid in classes)
    files = [folder / "val" / f"{name}.JPEG" for _, name in pictures]
    absent = next((file for file in files if not file.is_file()), None)
    if absent is not None:
        raise DataCorrupt(f"{absent}: named in {solution}, but absent")
    return files, [label for label, _ in pictures]


_MEAN, _STD = IMAGENET_STATISTICS


def _spec(name: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        image_shape=(3, 128, 128),
        num_classes=10,
        train_size=None,
        test_size=500,
        mean=_MEAN,
        std=_STD,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=5,
        source="ILSVRC 2012, the ten classes MTT's reference code lists; test = the 500 "
        "validation images; constants: MTT reference code",
    )


def _source(name: str) -> Source:
    classes = wnids(name)
    train = tuple(f"train/{wnid}/" for wnid in classes)
    return Source(
        read,
        layout="train/ID/*.JPEG and val/ID/*.JPEG (or val/*.JPEG and Kaggle's "
        f"{SOLUTION}), ID = {', '.join(classes)}",
        folders=(
            "ImageNet", name, "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC",
            "ImageNet/ILSVRC/Data/CLS-LOC", ".",
        ),
        markers=(
            (*train, *(f"val/{wnid}/" for wnid in classes)),
            *((*train, "val/ILSVRC2012_val_00000001.JPEG", place) for place in SOLUTION_PLACES),
        ),
        note="ImageNet may not be passed on: register at image-net.org (or take Kaggle's "
        "imagenet-object-localization-challenge) and point to the folder that holds train/ and "
        "val/, either whole or with the ten classes of the subset only",
    )  # fmt: skip


DATASETS = {_spec(name): _source(name) for name in SUBSETS}
