"""Class lists, and image counts for each class, as the benchmarks were published."""

from collections.abc import Mapping

Counts = Mapping[str, tuple[int, ...]]  # short name of a domain -> images of each sorted class

OFFICE31_CLASSES = tuple(
    "back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer "
    "file_cabinet headphones keyboard laptop_computer letter_tray mobile_phone monitor mouse mug "
    "paper_notebook pen phone printer projector punchers ring_binder ruler scissors speaker "
    "stapler tape_dispenser trash_can".split()
)

SHARED_WITH_CALTECH = (
    "back_pack bike calculator headphones keyboard laptop_computer monitor mouse mug projector"
).split()

OFFICE_HOME_CLASSES = tuple(
    "Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair "
    "Clipboards Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet "
    "Flipflops Flowers Folder Fork Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade Laptop "
    "Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes Printer "
    "Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker Spoon "
    "TV Table Telephone ToothBrush Toys Trash_Can Webcam".split()
)

VISDA_CLASSES = tuple(
    "aeroplane bicycle bus car horse knife motorcycle person plant skateboard train truck".split()
)

PACS_CLASSES = tuple("dog elephant giraffe guitar horse house person".split())

GLYPH31_CLASSES = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ2347&")

OFFICE_COUNTS: Counts = {
    domain: tuple(map(int, text.split()))
    for domain, text in {
        "A": "92 82 72 82 36 94 91 97 97 81 99 100 100 98 100 99 100 94 "
        "96 95 93 100 98 98 90 75 100 99 99 96 64",
        "W": "29 21 28 12 16 31 40 18 21 19 27 27 30 19 30 43 30 27 "
        "28 32 16 20 30 27 40 11 25 30 24 23 21",
        "D": "12 21 24 12 16 12 13 14 15 15 13 10 24 16 31 22 12 8 "
        "10 10 13 15 23 18 10 7 18 26 21 22 15",
    }.items()
}
OFFICE_CALTECH_COUNTS: Counts = {
    "A": (92, 82, 94, 99, 100, 100, 99, 100, 94, 98),
    "W": (29, 21, 31, 27, 27, 30, 43, 30, 27, 30),
    "D": (12, 21, 12, 13, 10, 24, 22, 12, 8, 23),
    "C": (151, 110, 100, 138, 85, 128, 133, 94, 87, 97),
}
VISDA_COUNTS: Counts = {
    "S": (14309, 7365, 16640, 12800, 9512, 14240, 17360, 12160, 10731, 11680, 16000, 9600),
    "R": (3646, 3475, 4690, 10401, 4691, 2075, 5796, 4000, 4549, 2281, 4236, 5548),
}
DIGITS_COUNTS: Counts = {
    "M": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "U": (1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
    "S": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
}
PACS_COUNTS: Counts = {
    "P": (189, 202, 182, 186, 199, 280, 432),
    "A": (379, 255, 285, 184, 201, 295, 449),
    "C": (389, 457, 346, 135, 324, 288, 405),
    "S": (772, 740, 753, 608, 816, 80, 160),
}
