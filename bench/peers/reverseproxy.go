// Go's own reverse proxy with one header added: what a small Go sidecar is made of.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	listen, origin, authorization := os.Args[1], os.Args[2], os.Args[3]
	target, err := url.Parse(origin)
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	forward := proxy.Director
	proxy.Director = func(request *http.Request) {
		forward(request)
		request.Header.Set("Authorization", authorization)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 256 // the default of 2 would open a connection for nearly every request
	proxy.Transport = transport
	log.Fatal(http.ListenAndServe(listen, proxy))
}
