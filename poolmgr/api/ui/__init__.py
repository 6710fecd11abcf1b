"""The dashboard: one page, rendered here from values, kept live by server-sent events.

`view` turns the snapshot into what the page says, `chart` draws the day, `templates/` is the words' form.
No build step and nothing from another host: the page must work in a cluster without Internet at 3 a.m.
"""
