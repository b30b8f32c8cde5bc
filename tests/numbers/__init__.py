"""Every number in a lesson's prose, captions and folded answers, computed again. `prose` has the tools."""
