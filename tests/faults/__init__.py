"""Many callers at once, and what breaks midway."""
