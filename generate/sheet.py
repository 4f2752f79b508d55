from genrep.sheet import contact_sheet, save_png

__all__ = ["contact_sheet", "save_png"]
