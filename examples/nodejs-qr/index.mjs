import qrcode from "qrcode-generator";

// Answers the event's text as a QR code, an SVG image.
export const handler = async ({ text }) => {
  if (!text) throw new TypeError("text: is missing");
  const code = qrcode(0, "M");
  code.addData(text);
  code.make();
  return { modules: code.getModuleCount(), svg: code.createSvgTag() };
};
