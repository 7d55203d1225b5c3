"""Who is enrolled, where and since when; what she consents to, corrects and logs in by."""
