"""What Python callers see: every verb as a function, the only place that spells its keyword arguments"""
