"""MNIST in its four idx files."""

from nsdbench.data.description import DSA_WITHOUT_FLIP, DatasetSpec
from nsdbench.data.readers.idx import Published, source

# md5 and the address below: torchvision, datasets/mnist.py, its first mirror; bytes as served there
PUBLISHED = {
    "train-images-idx3-ubyte": Published(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        9_912_422,
    ),
    "train-labels-idx1-ubyte": Published(
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "d53e105ee54ea40749a09fcbcd1e9432",
        28_881,
    ),
    "t10k-images-idx3-ubyte": Published(
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "9fb629c4189551a2d022fa330f9573f3",
        1_648_877,
    ),
    "t10k-labels-idx1-ubyte": Published(
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "ec29112dd5afa0611ce80d1b7f02629c",
        4_542,
    ),
}

DATASETS = {
    DatasetSpec(
        name="MNIST",
        image_shape=(1, 28, 28),
        num_classes=10,
        train_size=60_000,
        test_size=10_000,
        mean=(0.1307,),
        std=(0.3081,),
        dsa_strategy=DSA_WITHOUT_FLIP,
        default_depth=3,
        is_downloadable=True,
        source="LeCun et al. 1998; constants: DC reference code",
    ): source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        PUBLISHED,
        folders=("MNIST", "MNIST/raw", "mnist"),  # not the root itself: FashionMNIST may lie there
        note="the folder MNIST/raw that torchvision makes will do as well",
    )
}
