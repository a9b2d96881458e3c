"""What stands between preprocessed values and features; a module registers the encoder of its name.

An encoder is called as ``build(config, x, train, seed) -> (features [N, K] float32, names, leaks)``. ``x`` [N, G] is
one preprocessed modality in float32, CSR where ``data.select=none`` left it sparse. Nothing may be fitted on rows
outside ``train``; an encoder that does so says it in ``leaks``. Empty ``names`` keep the names of the modality.
"""
