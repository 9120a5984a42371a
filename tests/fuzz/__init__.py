"""Any bytes in, a value or a ZooError out: every reader of what strangers write, under Atheris (libFuzzer).

    make fuzz                                 # all readers, ten minutes
    make fuzz FUZZ="--seconds 60 index gguf"  # some, a minute

readers/ is the table of readers. corpus/NAME/ holds small inputs of each, among them every one that ever
ended in something else; tests/fuzz/test_corpus.py reads them on every Python, without Atheris.
"""
