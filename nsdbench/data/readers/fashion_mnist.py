"""FashionMNIST in its four idx files."""

from pathlib import Path

from nsdbench.data.description import DSA_WITH_FLIP, DatasetSpec
from nsdbench.data.readers.idx import Published, source

# sha256: of Debian's files, which differ from the published ones only in the gzip header: with file
# name and time put back they have the published md5 sums. md5 and bytes: readme of
# zalandoresearch/fashion-mnist
PUBLISHED = {
    "train-images-idx3-ubyte": Published(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        26_421_880,
    ),
    "train-labels-idx1-ubyte": Published(
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "25c81989df183df01b3e8a0aad5dffbe",
        29_515,
    ),
    "t10k-images-idx3-ubyte": Published(
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "bef4ecab320f06d8554ea6380940ec79",
        4_422_102,
    ),
    "t10k-labels-idx1-ubyte": Published(
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "bb300cfdad3c16e7a12a480ee83cd310",
        5_148,
    ),
}

DATASETS = {
    DatasetSpec(
        name="FashionMNIST",
        image_shape=(1, 28, 28),
        num_classes=10,
        train_size=60_000,
        test_size=10_000,
        mean=(0.2861,),
        std=(0.3530,),
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=3,
        is_downloadable=True,
        source="Xiao et al., arXiv 1708.07747; constants: DC reference code",
    ): source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        PUBLISHED,
        folders=("FashionMNIST", "FashionMNIST/raw", "fashion-mnist", "."),
        system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
        note="Debian and Ubuntu have it as a package: apt install dataset-fashion-mnist",
    )
}
