from wsi_maxmin.progress import Quiet


def test_quiet_progress_prints_nothing(capfd):
    progress = Quiet()
    with progress.track("tiles", 3, unit="tile", done=1) as advance:
        advance()
        advance(1, note="slow")
    progress.say("done")
    assert capfd.readouterr() == ("", "")
