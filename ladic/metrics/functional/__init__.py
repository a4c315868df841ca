"""Caption metrics as pure functions on tokenised captions; free of torch.

A tokenised caption is a string of words with single spaces between them, as ``ptb_tokenize`` returns it. It stays a
string because COCO's metrics take it apart in two ways: BLEU and CIDEr-D at any white space, ROUGE-L at plain spaces
only, which matters for the one token that has a no-break space inside ("22\\u00a03/4") and for the empty caption.
"""
