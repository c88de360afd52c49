"""Agents at work: instances, mailboxes, dispatch, commits, schedules, routing, supervision."""
