# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What tests of mod_proxy's balancers have in common: lines of configuration,
# and what the balancer's own page says.
#
#     my $httpd = Httpd->start(
#         modules => [Balanced::modules(), 'proxy_fastcgi'],
#         config => Balanced::section('php', [[$app, 'retry=5'], [$other]],
#                                     'maxattempts=1') . $more);
#     Balanced::url_of($app)        # of a FcgiApp, for mod_proxy's lines
#     Balanced::manager($httpd)     # [{ status, elected, busy, to, from }, ...]
#     Balanced::states($httpd)      # "Err,Ok": the members, in their order
#     Balanced::column($httpd, 'busy')   # "0,1"
#     Balanced::idle($httpd)    # "0,0": that column once nobody is busy, which
#                               # is a moment after the last answer
#     Balanced::change($httpd, 0, 'w_status_D=1')   # the first member, on its
#                                # page; returns the status of the answer
#     Balanced::silent_host()       # a FcgiApp that answers no SYN: its backlog
#                                   # is full
package Balanced;

use strict;
use warnings;
use Client;
use FcgiApp;
use IO::Socket::INET;
use Private;

my $labels = 0;

sub modules {
    my (@methods) = @_;
    return (qw(slotmem_shm proxy proxy_balancer),
            map { "lbmethod_$_" } @methods ? @methods : 'byrequests');
}

# mod_proxy tells members on one machine apart by their hosts.
sub url_of {
    my ($app) = @_;
    $app->{label} //= 'm' . ++$labels;
    return $app->{port} ? 'fcgi://' . $app->address
        : 'unix:' . $app->address . "|fcgi://$app->{label}";
}

# The balancer of that name, and its page at /manager; set is ProxySet's.
sub section {
    my ($name, $members, $set) = @_;
    my $lines = join '', map {
        '  BalancerMember "' . url_of($_->[0]) . '" ' . ($_->[1] // '') . "\n"
    } @$members;
    $lines .= "  ProxySet $set\n" if $set;
    return <<"EOC";
<Proxy "balancer://$name">
$lines</Proxy>
<Location /manager>
  SetHandler balancer-manager
</Location>
EOC
}

sub manager {
    my ($httpd) = @_;
    my $page = Client->get($httpd->port, '/manager')->body;
    my @rows;
    for my $row ($page =~ m{<tr>\s*<td><a href.*?</tr>}gs) {
        my @cells = map { s/<[^>]*>//gr =~ s/^\s+|\s+$//gr }
            $row =~ m{<td[^>]*>(.*?)(?=<td|</tr>)}gs;
        my %row;
        @row{qw(name route redirect factor set status elected busy load to
                from)} = @cells;
        push @rows, \%row;
    }
    return @rows;
}

sub column {
    my ($httpd, $name) = @_;
    return join ',', map { $_->{$name} } manager($httpd);
}

sub idle {
    my ($httpd) = @_;
    my $busy;
    Private::wait_until(10, sub {
        $busy = column($httpd, 'busy');
        return $busy !~ /[1-9]/;
    });
    return $busy;
}

sub change {
    my ($httpd, $nr, $how) = @_;
    my $port = $httpd->port;
    my @links = Client->get($port, '/manager')->body
        =~ m{href="/manager\?(b=[^"]*w=[^"]*)"}g;
    my $form = $links[$nr] =~ s/&amp;/&/gr . "&$how";
    return Client->request($port, join "\r\n",
        'POST /manager HTTP/1.1', "Host: localhost:$port",
        "Referer: http://localhost:$port/manager", 'Connection: close',
        'Content-Type: application/x-www-form-urlencoded',
        'Content-Length: ' . length $form, '', $form)->status;
}

sub silent_host {
    my $app = FcgiApp->start(sub { }, transport => 'tcp', workers => 0,
                             backlog => 1);
    $app->{held} = [map {
        IO::Socket::INET->new(PeerAddr => $app->address, Blocking => 0)
    } 1 .. 6];
    return $app;
}

sub states {
    return join ',', map { $_->{status} =~ /Err/ ? 'Err' : 'Ok' } manager(@_);
}

1;
