"""What a study may say of the augmentation of images: a name, or transforms written out. No torch here.

`mlcl.data.augment` holds the transforms themselves; names, settings and defaults are the same there.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

NAMES = ("basic", "crop_flip", "cutout_randaugment", "randaugment", "randaugment_strong")
Share = Annotated[float, Field(gt=0, le=1)]


class _Transform(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cutout(_Transform):
    share: Share = 0.5


class Flip(_Transform):
    p: Annotated[float, Field(ge=0, le=1)] = 0.5


class RandAugment(_Transform):
    num_ops: NonNegativeInt = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class RandomResizedCrop(_Transform):
    scale: tuple[Share, Share] = (0.2, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ValueError(f"{name} goes from {low:g} to {high:g}: the smaller number comes first")
        return self


TRANSFORMS: dict[str, type[_Transform]] = {
    "cutout": Cutout,
    "flip": Flip,
    "rand_augment": RandAugment,
    "random_resized_crop": RandomResizedCrop,
}


def checked(given: Any) -> str | list[dict[str, dict[str, Any]]]:
    """The augmentation with all defaults of its transforms filled in.

    Raises ValueError for names and settings that there are not, and for values out of range.
    """
    if isinstance(given, str):
        if given not in NAMES:
            raise ValueError(f"there is no augmentation '{given}'{_closest(given, NAMES)}")
        return given
    if not isinstance(given, list):
        raise ValueError(
            "must be a name or a list of transforms, such as [{cutout: {share: 0.5}}, {flip: {}}]"
        )
    return [_checked_transform(part) for part in given]


def _checked_transform(part: Any) -> dict[str, dict[str, Any]]:
    if isinstance(part, str):
        part = {part: {}}
    if not isinstance(part, dict) or len(part) != 1:
        raise ValueError(
            f"each transform is a name with its settings, such as {{flip: {{p: 0.5}}}}; not {part!r}"
        )
    ((name, settings),) = part.items()
    if name not in TRANSFORMS:
        raise ValueError(f"there is no transform '{name}'{_closest(str(name), TRANSFORMS)}")
    try:
        return {name: TRANSFORMS[name].model_validate(settings or {}).model_dump(mode="json")}
    except ValidationError as error:
        defect = error.errors()[0]
        key = ".".join([str(name), *map(str, defect["loc"])])
        if defect["type"] == "extra_forbidden":
            own = TRANSFORMS[name].model_fields
            raise ValueError(f"{key}: unknown key{_closest(str(defect['loc'][-1]), own)}") from None
        raise ValueError(f"{key}: {defect['msg']}") from None


def _closest(name: str, known: Any) -> str:
    if near := get_close_matches(name, list(known), n=2, cutoff=0.5):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; there are {', '.join(sorted(known))}"


Augmentation = Annotated[str | list[dict[str, dict[str, Any]]], BeforeValidator(checked)]
"""A name, or the transforms one after the other: `[{cutout: {share: 0.5}}, {flip: {}}]`."""
