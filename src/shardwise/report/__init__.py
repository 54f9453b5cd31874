"""What people look at.

`data` is what a report needs to know, as plain values; `page` writes it as one HTML file. Importing `page` loads
matplotlib and jinja2 (half a second and 40 MB): a run imports it when its report is due, in a process of its own or
at its end, and never at the start of the command line.
"""
