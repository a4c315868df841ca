"""Seeds made of several numbers: run, epoch, step, rank."""


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers, so that neighbours share no stream (splitmix64's finaliser, Steele et al. 2014).

    Example:
        >>> mixed_seed(0, 1) != mixed_seed(1, 0)
        True
    """
    mask, state = 2**64 - 1, 0
    for number in numbers:
        state = (state + (number & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1  # generators take 63 bits on every device
