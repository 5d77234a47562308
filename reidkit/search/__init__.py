"""Your own pictures: search a folder of them, and draw what the parts of a network look at.

    net = open_network("runs/NAME")                          # or the name of a shipped network
    index = open_index(net, "gallery/")                      # features of its pictures, kept beside them
    found = search(net, index, open_pictures(["query.jpg"]), top=20)     # Search: ranked lists, notes
    write_page("page.html", net, found)                      # reidkit search
    attention_sheet(net, open_pictures(["me.jpg"]))          # reidkit attention

`pictures` opens what a user names, `network` is the network of a run with its size, flip and precision, `gallery`
lists a folder, `blocks` and `index` keep its features, `nearest` is FAISS, `ranked` makes the lists, `page` and `sheet`
draw.
"""

from reidkit.search.index import GalleryIndex, open_index
from reidkit.search.nearest import KINDS, Kind
from reidkit.search.network import PictureNetwork, open_network
from reidkit.search.page import write_page
from reidkit.search.pictures import Picture, open_pictures
from reidkit.search.ranked import Hit, Search, search
from reidkit.search.sheet import attention_sheet

__all__ = [
    "KINDS",
    "GalleryIndex",
    "Hit",
    "Kind",
    "Picture",
    "PictureNetwork",
    "Search",
    "attention_sheet",
    "open_index",
    "open_network",
    "open_pictures",
    "search",
    "write_page",
]
