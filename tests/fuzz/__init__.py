"""Any bytes in, a value or a ZooError out: every reader of what strangers write, on variations of good input.

    make fuzz                                 # all readers, ten minutes
    make fuzz FUZZ="--seconds 60 index gguf"  # some, a minute

readers/ is the table of readers. corpus/NAME/ holds small inputs of each, among them every one that ever
ended in something else; tests/fuzz/test_corpus.py reads them too.

An input that ends in a sentence not heard before is varied further: these lead through a reader as coverage
would, on every Python. Atheris was tried; its 2.3 makes other code of `a < (b if c else d)` on Python 3.11.
"""
