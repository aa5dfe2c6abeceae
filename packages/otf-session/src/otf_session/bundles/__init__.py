"""Bundles: sessions in one file, to be opened and gone on with elsewhere.

`exporter.export_session` makes one, `importer.import_bundle` takes one in (also a folder of the
predecessor's), `verifier.verify` says what is wrong with one, or with a session. Each takes
`report`, which is told how many bytes of how many are done, and `is_cancelled`, which is asked as
often.

A bundle is a zip file, `NAME.otf.zip`, in which nothing but the record is compressed:

    checkpoints/NAME.pt      as they lie in the session
    final_models/NAME.pt     the weights alone of final and best checkpoints
    session.sqlite           this session's record, in one compact file
    manifest.json            what the others are, with their SHA-256

What comes from a bundle is never trusted: its database is read row by row into one of our own, and
nothing in it is unpickled.
"""
