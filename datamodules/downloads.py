"""Where data sets can be fetched, with what is known of each file.

Sizes and SHA-256 sums of COCO and of Karpathy's archive are those that TensorFlow Datasets publishes
(``url_checksums/coco_captions.txt``). Where None stands, nobody publishes a sum that we know of; the download prints
the one it found.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: where it lies.
        bytes: its size, if known.
        sha256: its sum, if known.
        note: what is in it.
    """

    url: str
    bytes: int | None = None
    sha256: str | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the file on the disk."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class RemoteData:
    """A data set.

    Attributes:
        title: its name, pictures and terms.
        files: what can be fetched.
        by_hand: what has to be done besides, or instead.
    """

    title: str
    files: tuple[RemoteFile, ...]
    by_hand: str


KARPATHY = RemoteFile(
    "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
    36745453,
    "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
    "dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json",
)

DOWNLOADS = {
    "coco": RemoteData(
        "COCO 2014, 113,287 / 5,000 / 5,000 pictures in Karpathy's split; annotations CC-BY 4.0",
        (
            RemoteFile(
                "http://images.cocodataset.org/zips/train2014.zip",
                13510573713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                "82,783 pictures",
            ),
            RemoteFile(
                "http://images.cocodataset.org/zips/val2014.zip",
                6645013297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                "40,504 pictures",
            ),
            KARPATHY,
            RemoteFile(
                "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
                252872794,
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                "COCO's own captions; not needed beside Karpathy's",
            ),
        ),
        "unpack train2014.zip and val2014.zip side by side and give their folder as --data.images, dataset_coco.json "
        "as --data.annotations of CocoDataModule",
    ),
    "paragraphs": RemoteData(
        "Stanford image paragraphs, 14,575 / 2,487 / 2,489 pictures of Visual Genome; CC-BY 4.0",
        (
            RemoteFile("http://visualgenome.org/static/data/dataset/paragraphs_v1.json.zip", note="the paragraphs"),
            *(
                RemoteFile(
                    f"https://cs.stanford.edu/people/ranjaykrishna/im2p/{split}_split.json",
                    note=f"image ids of {split}",
                )
                for split in ("train", "val", "test")
            ),
            RemoteFile("https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip", note="VG_100K, about 9 GB"),
            RemoteFile("https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip", note="VG_100K_2, about 5 GB"),
        ),
        "unpack images.zip and images2.zip side by side and give their folder as --data.images, paragraphs_v1.json as "
        "--data.annotations of StanfordParagraphDataModule",
    ),
    "flickr8k": RemoteData(
        "Flickr8k, 6,000 / 1,000 / 1,000 pictures; for research",
        (KARPATHY,),
        "the pictures (Flickr8k_Dataset.zip, about 1 GB) are given out by the University of Illinois on a form; give "
        "their folder as --data.images, dataset_flickr8k.json as --data.annotations of FlickrDataModule",
    ),
    "flickr30k": RemoteData(
        "Flickr30k, 29,000 / 1,014 / 1,000 pictures; for research",
        (KARPATHY,),
        "the pictures (flickr30k-images.tar.gz, about 4 GB) are given out by the University of Illinois on a form; "
        "give their folder as --data.images, dataset_flickr30k.json as --data.annotations of FlickrDataModule",
    ),
}
