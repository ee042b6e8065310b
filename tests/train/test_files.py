"""Files are whole or not there, and readable by whom the user's umask allows."""

import os
import stat

import pytest

from gramian.files import replace_file


def test_a_written_file_has_the_mode_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    replace_file(tmp_path / "ours", lambda path: path.write_text("content"))
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(os.stat(plain).st_mode)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("old")

    def half(path):
        path.write_text("ne")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        replace_file(kept, half)
    assert kept.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept"]
