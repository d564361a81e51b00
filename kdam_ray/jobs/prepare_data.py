"""A dataset, checked file by file and written as Parquet shards that every job's --root takes, in a folder or on S3.

    kdam prepare-data --dataset nyud --root /data/NYUDv2 --to /data/nyud-shards --stats
    kdam prepare-data --dataset pascal --root /data/PASCALContext --to s3://bucket/pascal --skip-bad
    kdam prepare-data --dataset rooms --export packaging --to /data/as-nyud --image-size 425 560 --images 40
    kdam prepare-data --dataset nyud --root /data/NYUDv2            # checks and writes nothing

Every file is decoded; all that is wrong is listed, and nothing is written unless --skip-bad leaves the bad images out.
The same data gives the same bytes; a run that was cut short goes on behind its last whole shard. Training on shards is
the same run as training on what they were written from. Cost on one core: about 0.1 s per image of 480 x 640, half for
checking.
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from kdam_ray.command import Say, announce, bad_input_exits, flags, output
from kdam_ray.config import Frozen, one_of
from kdam_ray.service.wording import counting, tracked
from kdam_ray.tasks import DATASETS

SPLITS = ("train", "val", "test")
PROCEDURAL = tuple(name for name, dataset in DATASETS.items() if dataset.is_procedural)
SHOWN = 6  # samples of a split on its contact sheet


class Flags(Frozen):
    """Flags of this job: what is checked and written as shards.

    Attributes:
        dataset: nyud or pascal (both need --root), rooms or rooms_pascal (procedural).
        root: folder of the packaging; or shards, which are checked too.
        to: folder or s3://bucket/prefix that gets the shards; left out: only checked.
        split: which of train, val and, of procedural data, test.
        images: at most so many of each split, the first ones; left out: all.
        image_size: height and width of procedural images; left out: the dataset's.
        stats: print class frequencies and depths, and write contact_sheet_<split>.png to --to (else to this folder).
        skip_bad: leave out images that cannot be used, instead of refusing the dataset.
        export: packaging: write the files of a public packaging instead of shards.
        shard_images: images of a shard.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    dataset: str
    root: str | None = None
    to: str | None = None
    split: Annotated[tuple[str, ...], Field(min_length=1)] = SPLITS[:2]
    images: Annotated[int, Field(ge=1)] | None = None
    image_size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | None = None
    stats: bool = False
    skip_bad: bool = False
    export: str | None = None
    shard_images: Annotated[int, Field(ge=1)] = 128
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def check(asked: Flags) -> None:
    """Refuse what does not exist or does not go together.

    Raises:
        ValueError: names the flag.
    """
    splits = SPLITS if asked.dataset in PROCEDURAL else SPLITS[:2]
    one_of(DATASETS, "dataset")(asked.dataset)
    for split in asked.split:
        one_of(splits, "split")(split)
    one_of(("packaging",), "export")(asked.export or "packaging")
    if asked.dataset in PROCEDURAL and asked.root:
        raise ValueError(f"root: {asked.dataset} is procedural and has none")
    if asked.dataset not in PROCEDURAL and (asked.image_size or not asked.root):
        raise ValueError(
            f"{'root' if not asked.root else 'image_size'}: {asked.dataset} is read from files, "
            "which --root holds at their own size"
        )
    if asked.export and (not asked.to or "://" in asked.to):
        raise ValueError("to: --export packaging writes to a folder; name it")


def examine(asked: Flags, split: Any) -> tuple[Any, Any, Any]:
    """Look at every image of a split. Returns (examination, datasheet, contact sheet or None)."""
    from kdam_ray.data.examine import Examination
    from kdam_ray.data.opening import Wanted, official_images
    from kdam_ray.report.datasheet import Datasheet, contact_sheet
    from kdam_ray.service.records.remote_shards import local_root

    dataset = DATASETS[asked.dataset]
    official = official_images(dataset, split)
    images = min(asked.images or official, official) if asked.dataset in PROCEDURAL else asked.images
    root = local_root(asked.root, dataset, {split: None})
    found = Examination(Wanted(dataset, split, images, asked.image_size or dataset.image_size), root=root)
    sheet, shown = Datasheet(dataset), {}
    for index, sample in tracked(found, f"{split} images checked", found.listed):
        if sample is None:
            continue
        sheet.add(sample)
        if index % -(-found.listed // SHOWN) == 0:
            shown[found.name(index)] = {name: array.copy() for name, array in sample.items()}
    return found, sheet, contact_sheet(shown, dataset) if shown else None


def write(asked: Flags, split: Any, found: Any) -> None:
    """The usable images of a split, as shards or as a packaging."""
    from kdam_ray.service.records.storage import Storage

    dataset, source = DATASETS[asked.dataset], found.usable()
    if asked.export:
        from kdam_ray.data.packaged.export import export_packaging

        export_packaging(source, dataset, str(asked.to), split)
        return

    from kdam_ray.data.shards.writer import write_shards

    target, left_out = Storage(str(asked.to), field="to"), tuple(found.problems)
    with counting(f"{split} images written", len(source)) as tell:
        for done in write_shards(source, dataset, split, target, per_shard=asked.shard_images, left_out=left_out):
            tell(done)


def check_target(asked: Flags) -> None:
    """Can it be written to?

    Raises:
        ValueError: no bucket, or a packaging is there already.
    """
    from kdam_ray.service.records.storage import Storage, check_reachable

    Storage(asked.to or ".", field="to")
    check_reachable(asked.to, writes=True, field="to")
    folders = [Path(asked.to or ".") / folder for folder in ("gt_sets", "ImageSets/Context")]
    lists = [folder / f"{split}.txt" for folder in folders for split in asked.split]
    if asked.export and (there := [path for path in lists if path.exists()]):
        raise ValueError(f"to: {there[0]} is there already; give an empty folder")


def save_sheet(asked: Flags, split: str, image: Any) -> str:
    """Where the contact sheet of a split was put."""
    from kdam_ray.service.records.storage import Storage

    storage, name = Storage(asked.to or ".", field="to"), f"contact_sheet_{split}.png"
    with tempfile.TemporaryDirectory() as folder:
        image.save(Path(folder) / name)
        storage.save_file(Path(folder) / name, name)
    return storage.uri(name)


def shards_of(asked: Flags) -> dict[str, Any]:
    """What the manifest says of each split, without the lists."""
    from kdam_ray.data.shards.manifest import MANIFEST, parse_manifest
    from kdam_ray.service.records.storage import Storage

    manifest = parse_manifest(Storage(str(asked.to)).read_bytes(MANIFEST) or b"", MANIFEST)
    return {
        split: {
            "fingerprint": rows.fingerprint, "images": len(rows.ids), "left_out": list(rows.left_out),
            "shards": {row.name: row.sha256 for row in rows.shards}, "bytes": sum(row.bytes for row in rows.shards),
        }
        for split, rows in manifest.splits.items() if split in asked.split
    }  # fmt: skip


def as_text(document: dict[str, Any], sheets: dict[str, Any]) -> str:
    """What was found and what was written."""
    lines = [f"{document['dataset']}{' in ' + document['root'] if document['root'] else ''}"]
    for split, row in document["splits"].items():
        lines.append(f"{split}: {row['listed']} images, {row['listed'] - len(row['problems'])} of them usable")
        lines += [f"  note: {note}" for note in row["notes"]]
        lines += [f"  {line}" for line in sheets[split].as_text().splitlines()] if "stats" in row else []
        if "contact_sheet" in row:
            lines.append(f"  contact sheet: {row['contact_sheet']}")
        if "shards" in row:
            lines.append(
                f"  {len(row['shards'])} shards, {row['bytes'] / 1e6:.1f} MB, fingerprint {row['fingerprint']}"
            )
            lines += [f"    {digest}  {name}" for name, digest in row["shards"].items()]
    written = document["written"]
    return "\n".join([*lines, f"{written} in {document['to']}" if written else "nothing written; --to says where"])


def run(asked: Flags, say: Say) -> int:
    """Check, then write."""
    check_target(asked)
    examined, sheets = {}, {}
    document: dict[str, Any] = {
        "dataset": asked.dataset,
        "root": asked.root,
        "to": asked.to,
        "written": None,
        "splits": {},
    }
    for split in asked.split:
        examined[split], sheets[split], picture = examine(asked, split)
        row = {name: getattr(examined[split], name) for name in ("listed", "problems", "notes")}
        if asked.stats:
            row["stats"] = sheets[split].as_json()
        if asked.stats and picture:
            row["contact_sheet"] = save_sheet(asked, split, picture)
        document["splits"][split] = row
    problems = [line for row in examined.values() for lines in row.problems.values() for line in lines]
    if asked.to and (asked.skip_bad or not problems):
        for split, found in examined.items():
            write(asked, split, found)
        document["written"] = "packaging" if asked.export else "shards"
    if document["written"] == "shards":
        for split, row in shards_of(asked).items():
            document["splits"][split] |= row
    for problem in problems:
        print(f"{'left out' if asked.skip_bad else 'bad'}: {problem}", file=sys.stderr)
    say(as_text(document, sheets), document)
    bad = sum(len(row.problems) for row in examined.values())
    if bad and not asked.skip_bad:
        listed = sum(row.listed for row in examined.values())
        print(f"error: {bad} of {listed} images cannot be used; --skip-bad leaves them out", file=sys.stderr)
        return 2
    return 0


def main() -> int:
    asked = flags(Flags, __doc__)
    with output(asked.as_json) as say, bad_input_exits():
        check(asked)
        announce(f"opens {asked.root or asked.dataset}")
        try:
            return run(asked, say)
        except OSError as error:
            print(f"failed: {error}; the same command goes on from here", file=sys.stderr)
            return 1
