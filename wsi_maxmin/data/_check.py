"""Find what would stop a training, or make it worthless, before hours are spent on it."""

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from wsi_maxmin.config import RunConfig
from wsi_maxmin.data._samples import FilePart, Sample, SlidePart
from wsi_maxmin.errors import InputError, WsiMaxminError
from wsi_maxmin.progress import Progress
from wsi_maxmin.readers import open_slide

Size = tuple[int, int]
"""Width and height."""

_THREADS = 16
_NAMED = 3
_HEAD_BYTES = 2**16
# A file that ends like this is whole, so that its header is enough; all others are decoded.
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}


def check_samples(
    train: Sequence[Sample], valid: Sequence[Sample], config: RunConfig, *, masks: bool, progress: Progress
) -> None:
    """Check classes, files and sizes of the samples of a training.

    Every image file is opened, and decoded where its header and end do not show it to be whole; of patches that are
    still in slides, one a slide is read.

    Parameters
    ----------
    train, valid : sequence of Sample
    config : RunConfig
    masks : bool
        Whether the method learns from masks; else they are not looked at.
    progress : Progress

    Raises
    ------
    InputError
        If a class is missing, an image (or mask) is missing or broken, or images cannot share a batch.
    """
    _check_classes(train, valid, config, progress)
    _check_overlap(train, valid, progress)
    everything = [*train, *valid]
    if masks:
        _check_masks(everything)
    with ThreadPoolExecutor(_THREADS) as pool, progress.track("check", len(everything), unit="image") as advance:
        found: list[Size | WsiMaxminError] = []
        for result in pool.map(_look, everything, _first_of_slide(everything), repeat(masks)):
            found.append(result)
            advance()
    if bad := [result for result in found if isinstance(result, WsiMaxminError)]:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise InputError(
            f"{len(bad)} of {len(found)} samples cannot be used",
            got=", ".join(str(error) for error in bad[:_NAMED]) + more,
            remedy="restore these files or take their rows out",
        )
    sizes = [result for result in found[: len(train)] if not isinstance(result, WsiMaxminError)]
    _check_sizes(train, [_resized(size, config.data.shorter_side_px) for size in sizes], config, progress)


def _check_classes(train: Sequence[Sample], valid: Sequence[Sample], config: RunConfig, progress: Progress) -> None:
    classes = config.data.classes
    for split, samples in (("training", train), ("validation", valid)):
        present = {sample.label for sample in samples}
        missing = ", ".join(name for index, name in enumerate(classes) if index not in present)
        if missing and (split == "training" or len(present) == 1):
            raise InputError(
                f"a class has no {split} sample",
                got=f"none of {missing}",
                expected=f"samples of {', '.join(classes)}",
                remedy="check the lists, data.classes, data.exclude_groups and data.valid_fraction",
            )
        if missing:
            progress.say(f"no validation sample is {missing}: the choice of the best epoch knows nothing of it")


def _check_overlap(train: Sequence[Sample], valid: Sequence[Sample], progress: Progress) -> None:
    seen = {sample.image for sample in train}
    both = [sample for sample in valid if sample.image in seen]
    if both:
        progress.say(
            f"WARNING: {len(both)} of {len(valid)} validation images are training images too, such as {both[0].name}: "
            "scores on them say nothing of others"
        )


def _check_masks(samples: Sequence[Sample]) -> None:
    without = [sample for sample in samples if sample.mask is None and not sample.background_only]
    if without:
        raise InputError(
            "the method learns from masks",
            got=f"none for {len(without)} of {len(samples)} samples, such as {without[0].name}",
            expected="a mask for each",
            remedy="fill the list's column in, or say data.unmasked_is_background if those have no foreground",
        )


def _first_of_slide(samples: Iterable[Sample]) -> list[bool]:
    """Say of each sample whether it is the first of its slide."""
    seen: set[object] = set()
    first = []
    for sample in samples:
        slide = sample.image.slide if isinstance(sample.image, SlidePart) else None
        first.append(slide not in seen)
        seen.add(slide)
    return first


def _look(sample: Sample, first_of_slide: bool, masks: bool) -> Size | WsiMaxminError:
    """Return the size of a sample's image, or what is wrong with its files."""
    try:
        if masks and sample.mask is not None:
            _open(sample.mask)
        if not isinstance(sample.image, SlidePart):
            return _open(sample.image)
        part = sample.image
        if first_of_slide:
            # A reader of its own: those that samples are read with are one thread's at a time.
            with open_slide(part.slide.path, slide_mpp=part.slide.mpp, slide_id=part.slide.slide_id) as slide:
                slide.read(part.box, part.side_px, part.side_px)
    except WsiMaxminError as error:
        return error
    return part.side_px, part.side_px


def _open(place: Path | FilePart) -> Size:
    path, offset, count = (place.path, place.offset, place.count) if isinstance(place, FilePart) else (place, 0, -1)
    try:
        with path.open("rb") as file:
            stored = file.seek(0, io.SEEK_END) - offset
            if count < 0:
                count = stored
            if stored < count:
                raise OSError(f"it breaks off after {max(stored, 0)} of {count} bytes")
            return _size(file, offset, count)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        where = f"{path} at byte {offset}" if offset else path
        # Pillow names the stream that it was given, which is none of the user's.
        why = "no image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{where} ({why})") from error


def _size(file: io.BufferedReader, offset: int, count: int) -> Size:
    """Return the size of an image in a file, after decoding it if there is doubt that it is whole."""
    file.seek(offset)
    head = file.read(min(count, _HEAD_BYTES))
    file.seek(offset + max(count - _HEAD_BYTES, 0))
    tail = file.read(min(count, _HEAD_BYTES)).rstrip(b"\0")
    try:
        with Image.open(io.BytesIO(head)) as image:
            if tail.endswith(_ENDS.get(image.format or "", b"\0")):
                return image.size
    except (OSError, SyntaxError):
        pass  # A header may be longer than what was read of it.
    file.seek(offset)
    with Image.open(io.BytesIO(file.read(count))) as image:
        image.load()
        return image.size


def _resized(size: Size, shorter_side_px: int | None) -> Size:
    if shorter_side_px is None:
        return size
    shorter, longer = min(size), max(size)
    other = int(shorter_side_px * longer / shorter)
    return (shorter_side_px, other) if size[0] <= size[1] else (other, shorter_side_px)


def _check_sizes(samples: Sequence[Sample], sizes: Sequence[Size], config: RunConfig, progress: Progress) -> None:
    crop = config.augment.crop_px
    if crop is None:
        _check_one_size(samples, sizes, config)
        return
    small = [index for index, size in enumerate(sizes) if min(size) < crop]
    if not small:
        return
    example = f"{samples[small[0]].name}, {sizes[small[0]][0]}×{sizes[small[0]][1]}"
    if len(small) == len(sizes):
        raise InputError(
            "every training image is smaller than the crop",
            got=f"augment.crop_px={crop}, and {example}",
            remedy="set a smaller augment.crop_px, or data.shorter_side_px",
        )
    progress.say(
        f"{len(small)} of {len(sizes)} training images are smaller than augment.crop_px={crop} ({example}): "
        "they are padded with white"
    )


def _check_one_size(samples: Sequence[Sample], sizes: Sequence[Size], config: RunConfig) -> None:
    if config.training.batch_size == 1:
        return
    turned = [size[::-1] for size in sizes] if config.augment.rotate_90 else []
    first: dict[Size, str] = {}
    for index, size in enumerate([*sizes, *turned]):
        first.setdefault(size, samples[index % len(samples)].name)
    if len(first) > 1:
        raise InputError(
            "training images of different sizes cannot share a batch",
            got=", ".join(f"{name} {width}×{height}" for (width, height), name in list(first.items())[:2]),
            remedy="set augment.crop_px, or training.batch_size to 1; images that are not square cannot keep "
            "their size under augment.rotate_90 either",
        )
