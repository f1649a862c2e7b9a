"""Notifications: tells the receivers of an environment (``notify:`` in goldenami.yaml) what happened.

``document`` has the event, ``delivery`` records and sends it, ``senders`` has the kinds of receivers. This module
imports none of them: reading goldenami.yaml needs the names of the events, and no AWS library.
"""
