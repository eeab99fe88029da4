# A browser shows the status page whole, in light and dark, wide and narrow.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# SCREENSHOTS=directory keeps what the browser has painted, to be looked at.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Browser;
use Client;
use FcgiApp;
use Httpd;
use List::Util qw(max);
use Private;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'no chromium here' if !Browser::program();

my $PATIENCE = 60;      # seconds for a browser on a busy machine
my $CONTRAST = 4.5;     # WCAG 2.1, 1.4.3, level AA

# ---- what is shown: a busy one, one that fails, one that is gone, ... ----

# Begins an answer, which ends when it is released.
sub held {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my ($id) = $request->{params}{QUERY_STRING};
        $c->stdout("Content-Type: text/plain\r\n\r\n" . 'x' x 5000);
        $c->report(begun => $id);
        $c->wait_release($id, 120) if $id;
        $c->end;
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

my $dir = Private::temp_dir('page');
my $long = "$dir/" . 'l' x (107 - length "$dir/");
my $busy = FcgiApp->start(\&held, workers => 5);
my $fails = FcgiApp->start(sub { $_[0]->read_request(10); $_[0]->close });
my $gone = FcgiApp->start(sub { });
my $far = FcgiApp->start(\&held, transport => 'unix', socket => $long);

my $httpd = Httpd->start(
    modules => ['status'],
    vars => { BUSY => $busy->handler, FAILS => $fails->handler,
              GONE => $gone->handler, LONG => $long },
    mpm => Httpd::mpm() eq 'prefork'
        ? "StartServers 12\nServerLimit 20\nMaxRequestWorkers 20\n" : undef,
    config => <<'EOC');
FcgiBackend app @BUSY@ max=4 queue=3 queue-timeout=120 keepalive=2
FcgiBackend a-name-that-is-rather-long.but_allowed @LONG@ max=32 keepalive=8
FcgiBackend fcgi:/run/never/asked.sock max=8
FcgiConnectTimeout 50ms
FcgiRetry Off
<Location /status>
  SetHandler fcgi-status
</Location>
<Location /server-status>
  SetHandler server-status
</Location>
<Location /app>
  SetHandler fcgi:app
</Location>
<Location /fails>
  SetHandler @FAILS@
</Location>
<Location /gone>
  SetHandler @GONE@
</Location>
<Location /far>
  SetHandler fcgi:@LONG@
</Location>
<Location /named>
  SetHandler "fcgi:%{HTTP:X-Address}"
</Location>
EOC

my $url = 'http://127.0.0.1:' . $httpd->port . '/status';

sub ask { return Client->get($httpd->port, @_)->status }

ask('/far') for 1 .. 30;
ask('/app') for 1 .. 15;
ask('/fails') for 1 .. 7;
$gone->stop;
ask('/gone') for 1 .. 2;
ask('/named', 'X-Address' => '/nowhere/"><script>document.title=1</script>');
ask('/named', 'X-Address' => '/' . "\xc3\xbc" x 53);
my @conns;
my $PARKED = Httpd::can_park() ? 6 : 0;
for my $id (1 .. 6) {
    push @conns, my $conn = Client->connect($httpd->port);
    $conn->send("GET /app?$id HTTP/1.1\r\nHost: x\r\n\r\n");
}
Private::wait_until(20, sub {
    Client->get($httpd->port, '/status?json')->body
        =~ /"in_use":4,"idle":0,"waiting":2,"parked":$PARKED,/;
}) or diag 'the busy one is not busy';
# the last moments are shown once they are over
sleep 5.1 if $ENV{SCREENSHOTS};

my $browser = Browser->start;
$browser->open_page;

# ---- the tests ----

# The start and end tags of HTML, with their attributes in order.
sub tags {
    my ($html) = @_;
    $html =~ s/<style>.*?<\/style>/<style><\/style>/gs;
    my @tags = grep { !m{^</?tbody>$|^</(?:path|rect)>$} }
        $html =~ m{(</?[a-zA-Z][^<>]*>)}g;
    return map { s{\s*/?>$}{>}r } @tags;
}

# Where tags do not match, strictly: nothing is implied.
sub unbalanced {
    my ($html) = @_;
    my %void = map { $_ => 1 } qw(meta br hr);
    my @open;
    for my $tag ($html =~ m{(<[^>]*>)}g) {
        my ($end, $name, $self) = $tag =~ m{^<(/?)([a-z][a-z0-9]*)\b.*?(/?)>$}s
            or $tag eq '<!DOCTYPE html>' ? next : return "no tag: $tag";
        return "attributes without quotes: $tag"
            if $tag !~ m{^</?\w+(?:\s[\w-]+="[^"<>]*")*\s?/?>$};
        next if $void{$name} || $self;
        return "$tag closes <" . ($open[-1] // '') . '>'
            if $end && (pop @open // '') ne $name;
        push @open, $name if !$end;
    }
    return @open ? "open: @open" : '';
}

subtest 'a browser corrects nothing' => sub {
    my $html = Client->get($httpd->port, '/status?refresh=0')->body;
    is(unbalanced($html), '', 'all tags are closed, in order');
    is(scalar(() = $html =~ /&(?!(?:nbsp|ndash|micro|middot|amp|lt|gt|quot);)/g),
       0, 'no bare ampersand');
    $browser->go("$url?refresh=0");
    my $shown = $browser->html;
    # numbers may change between two requests, elements may not
    is_deeply([map { s/ (?:d|width|x|height|viewBox)="[^"]*"//gr }
               tags($shown)],
              [map { s/ (?:d|width|x|height|viewBox)="[^"]*"//gr }
               tags($html)],
              'its document has the tags that were sent, and no others');
    is(scalar(() = $shown =~ /<section>/g), 7, 'all backends');
    unlike($shown, qr/<script/i, 'no script');
    my @said = map { "$_->{entry}{level}: $_->{entry}{text}" }
        $browser->events('Log.entryAdded');
    is_deeply(\@said, [], 'it complains about nothing');
};

# WCAG's relative luminance, and the contrast of two colours.
sub luminance {
    my @linear = map { my $c = $_ / 255;
                       $c <= 0.04045 ? $c / 12.92
                           : (($c + 0.055) / 1.055) ** 2.4 } @{ $_[0] };
    return 0.2126 * $linear[0] + 0.7152 * $linear[1] + 0.0722 * $linear[2];
}

sub contrast {
    my ($more, $less) = sort { $b <=> $a } map { luminance($_) } @_;
    return ($more + 0.05) / ($less + 0.05);
}

# Width and height of a PNG.
sub size_of { return unpack 'x16 N2', $_[0] }

for my $scheme (qw(light dark)) {
    for my $width (1240, 400) {
        subtest "$scheme, $width wide" => sub {
            $browser->look_like($scheme, $width);
            $browser->go("$url?refresh=0");
            my $size = $browser->command('Page.getLayoutMetrics')
                ->{cssContentSize};
            cmp_ok($size->{width}, '<=', $width, 'nothing to scroll sideways');
            cmp_ok($size->{height}, '>', 900, 'there is something');

            my @painted = $browser->painted;
            my ($body) = grep { $_->{tag} eq 'body' } @painted;
            my $bright = luminance($body->{ground});
            $scheme eq 'dark' ? cmp_ok($bright, '<', 0.1, 'dark')
                : cmp_ok($bright, '>', 0.8, 'light');

            my @texts = grep { $_->{tag} eq '#text' && $_->{text} =~ /\S/ }
                @painted;
            cmp_ok(scalar @texts, '>', 100, 'texts');
            my %weak;
            for my $text (@texts) {
                my $is = contrast(@$text{qw(colour ground)});
                $weak{$text->{text}} = sprintf '%.2f', $is if $is < $CONTRAST;
            }
            is_deeply(\%weak, {}, 'all can be read');
            is_deeply([map { $_->{text} } grep {
                my ($x, undef, $w, $h) = @{ $_->{box} };
                $x < 0 || $x + $w > $width + 0.5 || !$w || !$h } @texts], [],
                'none is cut at the sides');

            my @pictures = grep { $_->{tag} eq 'svg' } @painted;
            is(scalar @pictures, 2 * 7 + 3, 'pictures');
            is(scalar(grep { $_->{box}[2] < 100 || $_->{box}[3] < 8 }
                      @pictures), 0, 'each can be seen');

            my $image = $browser->screenshot;
            is((size_of($image))[0], $width, 'it is painted as wide');
            Private::spew("$ENV{SCREENSHOTS}/$scheme-$width.png", $image)
                if $ENV{SCREENSHOTS};
        };
    }
}

subtest 'the bars are as long as what they show' => sub {
    $browser->look_like('light', 1240);
    $browser->go("$url?refresh=0");
    my $html = $browser->html;
    my ($section) = grep { /<h2>app / } $html =~ m{(<section>.*?</section>)}gs;
    my ($bar) = $section =~ m{<svg class="bar".*?viewBox="([^"]*)"};
    is($bar, '0 0 4 1', 'four may be in use');
    my ($use) = $section =~ m{<rect class="use" ([^>]*)>};
    my ($idle) = $section =~ m{<rect class="idle" ([^>]*)>};
    like($use, qr/\bwidth="4"/, 'four are in use');
    like($idle, qr/\bx="4" width="0"/, 'none is idle');
    my @bars = $section =~ m{<path class="use" d="([^"]*)"}g;
    is(scalar @bars, 2, 'two pictures with bars');
    for my $path (@bars) {
        my @heights;
        while ($path =~ /\GM(\d+) (\d+)v-([\d.]+)h\.9v([\d.]+)z/gc) {
            push @heights, $3;
            $3 == $4 && $3 >= 1 && $3 <= $2 && $2 == 40
                or fail("a bar that is none: $&");
        }
        is(substr($path, pos($path) // 0), '', 'only bars');
        is(max(@heights, 40), 40, 'none higher than the picture');
    }
    like($bars[1], qr/v-40\.0h/, 'the highest is as high as the picture');
};

# The access log, once nothing was added to it for 0.2 s: lines come after the
# answers they are about.
sub settled_log {
    my ($log, $since) = ('', 0);
    Private::wait_until(10, sub {
        my $now = $httpd->access_log;
        ($log, $since) = ($now, time) if $now ne $log || !$since;
        return time - $since > 0.2;
    });
    return $log;
}

subtest 'nothing is fetched but the page' => sub {
    my $before = length settled_log();
    $browser->go("$url?refresh=0");
    my @asked = map { $_->{request}{url} }
        $browser->events('Network.requestWillBeSent');
    is_deeply(\@asked, ["$url?refresh=0"], 'the browser asked for');
    ok(Private::wait_until($PATIENCE, sub {
        substr($httpd->access_log, $before) =~ /refresh=0/;
    }), 'logged');
    my @lines = substr(settled_log(), $before) =~ /"GET (\S+) /g;
    is_deeply([grep { $_ ne '/favicon.ico' } @lines], ['/status?refresh=0'],
              'httpd was asked for');
};

subtest 'it refreshes itself' => sub {
    my $hits = sub { scalar(() = $httpd->access_log
                            =~ m{"GET /status\?refresh=$_[0] }g) };
    settled_log();
    my $stopped = $hits->(0);
    $browser->go("$url?refresh=1");
    ok(Private::wait_until($PATIENCE, sub { $hits->(1) >= 3 }),
       'every second');
    is($hits->(0), $stopped, 'and nothing else');
    my $html = Client->get($httpd->port, '/status?refresh=1')->body;
    like($html, qr/new every 1&nbsp;s/, 'it says so');
    my ($stop) = $html =~ /<a href="([^"]*)">stop</;
    is($stop, '?refresh=0', 'and can be stopped');
    $browser->go("$url$stop");
    my ($go) = $browser->html =~ /<a href="([^"]*)">go on</;
    is($go, '?', 'and go on');
};

subtest 'in server-status' => sub {
    $browser->look_like('light', 1240);
    $browser->go("$url?refresh=0" =~ s{/status.*}{/server-status}r);
    my $html = $browser->html;
    like($html, qr{<h2>FastCGI backends</h2>\s*<table}, 'a section');
    my ($table) = $html =~ m{<h2>FastCGI backends</h2>\s*(<table.*?</table>)}s;
    is(unbalanced($table // ''), '', 'its tags are in order');
    is(scalar(() = ($table // '') =~ /<tr>/g), 8, 'a row for each, and a head');
    cmp_ok($browser->command('Page.getLayoutMetrics')->{cssContentSize}{width},
           '<=', 1240, 'no wider than the window');
    Private::spew("$ENV{SCREENSHOTS}/server-status.png", $browser->screenshot)
        if $ENV{SCREENSHOTS};
};

$browser->stop;
$busy->release($_) for 1 .. 6;
is($_->read_response->status, 200, 'those that were held are answered')
    for @conns;
$httpd->ok_healthy;
done_testing;
