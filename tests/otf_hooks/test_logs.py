import logging

import pytest
from otf_hooks.logs import LogTap


@pytest.fixture
def lines():
    return []


@pytest.fixture
def tap(lines):
    tap = LogTap(lambda level, logger, text: lines.append((level, logger, text)))
    tap.open()
    yield tap
    tap.close()


def test_records_of_every_logger_are_taken_with_level_and_name(tap, lines):
    logger = logging.getLogger("model.train")
    logger.propagate = False
    logger.warning("loss is %d", 3)
    logger.propagate = True
    assert lines == [(logging.WARNING, "model.train", "loss is 3")]


def test_exceptions_come_with_their_traceback(tap, lines):
    try:
        raise ValueError("bad batch")
    except ValueError:
        logging.getLogger("model").exception("failed")
    assert "failed" in lines[0][2]
    assert "ValueError: bad batch" in lines[0][2]


def test_arguments_that_do_not_fit_do_not_break_the_script(tap, lines):
    logging.getLogger("model").makeRecord("model", 20, "f", 1, "%d", ("x",), None)
    assert lines == [(20, "model", "%d")]


def test_the_scripts_own_configuration_still_works(tap):
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers.clear()
    try:
        assert not root.hasHandlers()
        logging.basicConfig()
        assert root.hasHandlers()
    finally:
        root.handlers[:] = before


def test_after_closing_nothing_is_left(lines):
    before = logging.getLogRecordFactory()
    tap = LogTap(lambda *line: lines.append(line))
    tap.open()
    tap.close()
    assert logging.getLogRecordFactory() is before
    logging.getLogger("model").warning("unheard")
    assert lines == []


def test_a_factory_put_around_it_survives_and_the_tap_falls_silent(lines):
    before = logging.getLogRecordFactory()
    tap = LogTap(lambda *line: lines.append(line))
    tap.open()
    inner = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: inner(*args, **kwargs))
    try:
        tap.close()
        logging.getLogger("model").warning("unheard")
        assert lines == []
    finally:
        logging.setLogRecordFactory(before)
