"""The viewer: igv.js in the user's web browser, served from this machine without a network.

`site` collects the files to serve, `page` writes the HTML, `server` answers requests.
"""
