// Pictures: from files, from the clipboard, dropped, or drawn.

/** {name, url} with the file's bytes in a data: URL. */
export function readPicture(file) {
  if (!file.type.startsWith("image/")) {
    return Promise.reject(new Error(`${file.name || "This"} is not a picture.`));
  }
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name: file.name || "picture.png", url: reader.result });
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

/** The pictures among what was dropped or pasted. */
export const picturesIn = (data) => [...(data?.files ?? [])].filter(({ type }) => type.startsWith("image/"));

/** Two shapes of the colours that the bundled model knows. */
export function drawExample() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 336;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#f4f4f4";
  pen.fillRect(0, 0, 336, 336);
  pen.fillStyle = "#e6141e";
  pen.beginPath();
  pen.arc(67, 67, 47, 0, 7);
  pen.fill();
  pen.fillStyle = "#1440d2";
  pen.fillRect(222, 222, 94, 94);
  return { name: "example.png", url: canvas.toDataURL("image/png") };
}
