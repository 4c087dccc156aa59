"""DICOM files, written with pydicom, with a header that says who is on the picture."""

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PEOPLE = {
    "PatientName": "Musterfrau^Erika",
    "PatientID": "MRN-4711-XYZ",
    "PatientBirthDate": "19640812",
    "PatientAddress": "Heidestrasse 17, Koeln",
    "ReferringPhysicianName": "Doktorowski^Ivan",
    "InstitutionName": "Klinikum Nirgendwo",
    "AccessionNumber": "ACC99887766",
    "StudyDate": "20190317",
    "StudyTime": "134501.123456",
    "StudyDescription": "Fernroentgenseitenbild links",
    "StationName": "ROENTGEN3",
    "DeviceSerialNumber": "SN-556677",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111222333444555666",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.777888999000111222",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.333444555666777888",
    "ImageComments": "Verlaufskontrolle nach Sturz vom Apfelbaum",
}


def dataset(values: np.ndarray, *, bits: int | None = None, **elements) -> Dataset:
    """A radiograph with the stored values `[H, W]`, or `[H, W, 3]` RGB; `elements`: keyword -> value, None: without."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
    one.SpecificCharacterSet = "ISO_IR 100"
    one.Modality = "DX"
    for keyword, value in PEOPLE.items():
        setattr(one, keyword, value)
    one.Rows, one.Columns = values.shape[:2]
    one.SamplesPerPixel = 1 if values.ndim == 2 else 3
    one.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        one.PlanarConfiguration = 0
    one.BitsAllocated = values.dtype.itemsize * 8
    one.BitsStored = bits or one.BitsAllocated
    one.HighBit = one.BitsStored - 1
    one.PixelRepresentation = int(values.dtype.kind == "i")
    one.add_new("PixelData", "OW" if one.BitsAllocated > 8 else "OB", values.tobytes() + b"\0" * (values.nbytes % 2))
    for keyword, value in elements.items():
        if value is None:
            delattr(one, keyword)
        else:
            setattr(one, keyword, value)
    return one


def content(values: np.ndarray, **elements) -> bytes:
    """The file of `dataset`."""
    return written(dataset(values, **elements))


def written(one: Dataset) -> bytes:
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def identities(one: Dataset) -> list[str]:
    """All that the header says of people, places and times, as text that could be found somewhere."""
    return [*PEOPLE.values(), str(one.SOPInstanceUID), "Musterfrau", "Erika", "Doktorowski"]
