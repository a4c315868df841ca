"""What happens to a caption after decoding."""

from ladic.postprocess.base import PostProcessor
from ladic.postprocess.clean import CleanCaption
from ladic.postprocess.released import ReleasedPostProcessor

__all__ = ["CleanCaption", "PostProcessor", "ReleasedPostProcessor"]
