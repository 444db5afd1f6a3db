// each image is in the page once, as a part of the conversation that opens again
const parts = JSON.parse(document.getElementById("conversation").textContent).messages.flatMap((one) => one.content);
const images = parts.filter((part) => part.type === "image_url");
document.querySelectorAll("img").forEach((image, number) => { image.src = images[number].image_url.url; });
