"""`make tour`: data, training, evaluation, notebooks, and one page that shows what came out.

    python -m reidkit.tour [--out build/tour]

The page is there at once and grows: people first (`people.py`, the networks that ship with the kit on rendered
pictures), then what the steps of `steps.py` bring. `page.py` writes it; it needs no network and no JavaScript.
"""
