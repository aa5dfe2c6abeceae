"""The front for `transformers.Trainer`: a callback that steers it by its public hooks."""

try:
    import transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"OnTheFlyTransformersCallback needs transformers ({error}). Install it: "
        "pip install 'onthefly-ai[transformers]'"
    ) from error
