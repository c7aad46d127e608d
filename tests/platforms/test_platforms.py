"""Users' programs compile without a warning with the machine's g++. ./dev check and ./dev platforms have more of it."""
import pytest
import run


@pytest.fixture(scope="module")
def platform():
    return run.native("g++")


@pytest.mark.parametrize("column", ["c++17", "C"])
def test_users_programs_compile_with_warnings_as_errors(platform, column):
    run.QUICK[column](platform)


def test_a_warning_is_found(platform, tmp_path):
    header = tmp_path / "oteld/api.hpp"
    header.parent.mkdir()
    header.write_text("inline char narrow(long wide) { return wide; }\n")
    source = tmp_path / "user.cpp"
    source.write_text("#include <oteld/api.hpp>\n")
    with pytest.raises(run.Failed, match="conversion"):
        platform.compile(source, "c++17", include=tmp_path)
